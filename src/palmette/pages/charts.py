"""Draws the charts of pages as small SVG pictures in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

from palmette.evaluate.confidence import ReliabilityBin
from palmette.numbers import count, percent, plain, readable

WIDTH, HEIGHT = 360, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 34, 44
_MAX_POINTS = 240
_LONGEST_NAME = 28  # characters of a name beside a point, which then shows its end
_SVG = Markup(
    '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title" aria-describedby="{}-desc">'
    '<title id="{}-title">{}</title><desc id="{}-desc">{}</desc>{}</svg>'
)
_TEXT = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
_LINE = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
_RECT = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">{}</rect>')
_PATH = Markup('<path class="{}" d="{}"/>')
_DOT = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3.5"/>')
_TITLE = Markup("<title>{}</title>")

Scale = Callable[[float], float]
Points = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class StepLine:
    """A figure over the optimizer steps, as one line of a chart.

    Attributes:
        points: (step, value), by rising step. There is at least one.
        name: its name, which is needed only if the chart has another line.
    """

    points: Points
    name: str = ""


def risk_coverage_chart(points: Sequence[tuple[float, float]]) -> Markup:
    """A chart of the share of wrong answers among the questions that a threshold on the probability keeps.

    Args:
        points: (coverage, risk), both from 0 to 1, by rising coverage. There is a point for each question, and the last
            one covers all of them.
    """
    (_, overall), num = points[-1], len(points)
    half = min(points, key=lambda point: abs(point[0] - 0.5))
    top = _nice_top(100 * max(risk for _, risk in points))
    x, y = _scale(0, 100, _LEFT, WIDTH - _RIGHT), _scale(0, top, HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(x, y, _ticks(100), _ticks(top), "questions kept, surest first (%)", "wrong among them (%)")]
    parts.append(_LINE.format("guide", x(0), y(100 * overall), x(100), y(100 * overall)))
    parts.append(
        _PATH.format("curve", _path((x(100 * coverage), y(100 * risk)) for coverage, risk in _thinned(points)))
    )
    for (coverage, risk), anchor, shift in ((half, "middle", 0), (points[-1], "end", 3)):
        parts.append(_DOT.format("dot", x(100 * coverage), y(100 * risk)))
        parts.append(
            _TEXT.format(
                "value", x(100 * coverage) + shift, y(100 * risk) - 9, anchor, percent(risk, round(coverage * num))
            )
        )
    described = (
        f"Of all questions, {percent(overall, num)} % are wrong. Of the {100 * half[0]:.0f} % that the model is surest "
        f"of, {percent(half[1], round(half[0] * num))} % are wrong. The dashed line is the share for a random order."
    )
    return _figure("risk", "Errors against the share of questions kept", described, parts)


def reliability_chart(bins: Sequence[ReliabilityBin]) -> Markup:
    """A chart of the stated probability against the share of right answers, with the size of each bin below."""
    floor, base = HEIGHT - _BOTTOM, HEIGHT - _BOTTOM - 58
    x, y = _scale(0, 100, _LEFT, WIDTH - _RIGHT), _scale(0, 100, base, _TOP)
    most = max(one.count for one in bins)
    parts = [_axes(x, y, (), _ticks(100), "", "right (%)")]
    parts += [_TEXT.format("tick", x(tick), floor + 16, "middle", f"{tick:g}") for tick in _ticks(100)]
    parts.append(_TEXT.format("label", x(50), floor + 36, "middle", "probability stated (%)"))
    parts.append(_TEXT.format("tick", _LEFT - 6, floor, "end", "n"))
    parts.append(_LINE.format("axis", x(0), floor, x(100), floor))
    words = [
        f"stated {100 * one.low:.0f} to {100 * one.high:.0f} % ({percent(one.confidence, one.count)} % on average): "
        f"{count(one.count, 'question')}, {percent(one.accuracy, one.count)} % right"
        for one in bins
    ]
    for one, tip in zip(bins, words, strict=True):
        left, width = x(100 * one.low) + 1.5, x(100 * one.high) - x(100 * one.low) - 3
        top, height = y(100 * one.accuracy), 26 * one.count / most
        parts.append(_RECT.format("bar", left, top, width, base - top, _TITLE.format(tip)))
        parts.append(_LINE.format("cap", left, top, left + width, top))
        parts.append(_RECT.format("count", left, floor - height, width, height, _TITLE.format(tip)))
        parts.append(_TEXT.format("small", left + width / 2, floor - height - 4, "middle", _short(one.count)))
    parts.append(_LINE.format("guide", x(0), y(0), x(100), y(100)))
    described = ". ".join(word[0].upper() + word[1:] for word in words) + "."
    return _figure("reliability", "Stated probability against the share that was right", described, parts)


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A model on a chart of quality and speed.

    Attributes:
        name: its name.
        rate: questions a second.
        exact: exact match, in percent.
        front: whether it is on the Pareto front.
    """

    name: str
    rate: float
    exact: float
    front: bool


def front_chart(points: Sequence[FrontPoint]) -> Markup:
    """A chart of exact match against questions a second. Models on the Pareto front have filled points.

    Args:
        points: the models. There is at least one.
    """
    right, top = (_nice_top(max(values)) for values in ([p.rate for p in points], [p.exact for p in points]))
    x, y = _scale(0, right, _LEFT, WIDTH - _RIGHT), _scale(0, top, HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(x, y, _ticks(right), _ticks(top), "questions a second", "exact match (%)")]
    for point in points:
        parts.append(_DOT.format("dot" if point.front else "hollow", x(point.rate), y(point.exact)))
        anchor, shift = ("end", -8) if point.rate > right / 2 else ("start", 8)
        name = point.name if len(point.name) <= _LONGEST_NAME else f"…{point.name[1 - _LONGEST_NAME :]}"
        parts.append(_TEXT.format("small", x(point.rate) + shift, y(point.exact) + 4, anchor, name))
    described = " ".join(
        f"{point.name}: {readable(point.exact)} % at {readable(point.rate, 2)} questions a second." for point in points
    )
    return _figure("front", "Exact match against speed", described, parts)


def loss_chart(loss: Points) -> Markup:
    """A chart of the training loss.

    Args:
        loss: (optimizer step, nats per learned token), by rising step.
    """
    return steps_chart("loss", [StepLine(loss)], title="Training loss", label="loss (nats per learned token)")


def steps_chart(
    name: str,
    lines: Sequence[StepLine],
    *,
    title: str,
    label: str,
    guides: Sequence[float] = (),
    least: float | None = None,
    unit: str = "optimizer step",
) -> Markup:
    """A chart of figures over the optimizer steps, or over other steps.

    Single steps are pale. The mean over a twentieth of the run is dark.

    Args:
        name: letters and digits that identify the chart on its page.
        lines: one or two figures of the same unit.
        title: the title of the chart.
        label: the label of the vertical axis, with the unit.
        guides: values to mark with dashed lines. Those outside the drawing are left out.
        least: smaller values are drawn at this value.
        unit: what a step is.
    """
    means = [_running_means(line.points) for line in lines]
    ticks, last = _step_ticks(lines, least), max(1, *(line.points[-1][0] for line in lines))
    x, y = _scale(0, last, _LEFT, WIDTH - _RIGHT), _scale(ticks[0], ticks[-1], HEIGHT - _BOTTOM, _TOP)
    x_ticks = [tick for tick in _ticks(_nice_top(last)) if tick <= last]
    parts = [_axes(x, y, x_ticks, ticks, unit, label)]
    shown = (guide for guide in guides if ticks[0] <= guide <= ticks[-1])
    parts += [_LINE.format("guide", x(0), y(guide), x(last), y(guide)) for guide in shown]
    styles = ("", " other")
    pale, dark = [_envelope(line.points) for line in lines], [_thinned(values) for values in means]
    for kind, paths in (("pale", pale), ("curve", dark)):
        for style, path in zip(styles, paths, strict=False):
            at = ((x(step), y(value if least is None else max(value, least))) for step, value in path)
            parts.append(_PATH.format(kind + style, _path(at)))
    ends = [values[-1] if least is None else (values[-1][0], max(values[-1][1], least)) for values in means]
    highest = max(value for _, value in ends)
    for line, style, (step, value), (_, true) in zip(lines, styles, ends, (m[-1] for m in means), strict=False):
        parts.append(_DOT.format("dot" + style, x(step), y(value)))
        shift = -10 if value == highest else 18
        parts.append(_TEXT.format("value", x(step), y(value) + shift, "end", f"{line.name} {readable(true)}".strip()))
    described = " ".join(_described(line, values[-1][1]) for line, values in zip(lines, means, strict=True))
    return _figure(name, title, described, parts)


def axis_ends(lines: Sequence[StepLine], least: float | None) -> tuple[float, float]:
    """The lowest and the highest value on the vertical axis of `steps_chart`."""
    ticks = _step_ticks(lines, least)
    return ticks[0], ticks[-1]


def _step_ticks(lines: Sequence[StepLine], least: float | None) -> list[float]:
    values = [value for line in lines for _, value in line.points]
    drawn = values if least is None else [max(value, least) for value in values]
    return _ticks_between(min(0.0, *drawn), max(0.0, *drawn))


def window_of(num_points: int) -> int:
    """The number of points in a running mean: a twentieth of all points, and at least one."""
    return max(1, num_points // 20)


def _running_means(points: Points) -> list[tuple[int, float]]:
    window = window_of(len(points))
    sums = [0.0, *accumulate(value for _, value in points)]
    first = [max(0, end - window) for end in range(1, len(sums))]
    return [
        (step, (sums[end] - sums[a]) / (end - a))
        for end, (a, (step, _)) in enumerate(zip(first, points, strict=True), 1)
    ]


def _described(line: StepLine, mean: float) -> str:
    (first, value), window = line.points[0], window_of(len(line.points))
    end = f"a mean of {readable(mean)} over the last {window} steps" if window > 1 else readable(mean)
    words = f"rom {readable(value)} at step {first} to {end}."
    return f"{line.name}: f{words}" if line.name else f"F{words}"


def share_bar(percent: float | None) -> Markup:
    """A bar that stands beside a number in a table cell."""
    filled = _RECT.format("filled", 0, 0, percent or 0.0, 4, "")
    return Markup(
        '<svg class="share" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="4"/>{}</svg>'
    ).format(filled)


def interval_bar(percent: float, interval: tuple[float, float] | None) -> Markup:
    """A line from 0 to 100 that shows the interval as a band and the value as a stroke."""
    low, high = interval or (percent, percent)
    return Markup(
        '<svg class="interval" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(
        Markup("").join(
            (
                _RECT.format("track", 0, 4, 100, 2, ""),
                _RECT.format("band", low, 2, high - low, 6, ""),
                _RECT.format("filled", min(max(percent - 0.5, 0), 99), 0, 1, 10, ""),
            )
        )
    )


def _figure(name: str, title: str, described: str, parts: Iterable[Markup]) -> Markup:
    return _SVG.format(WIDTH, HEIGHT, name, name, name, title, name, described, Markup("").join(parts))


def _axes(x: Scale, y: Scale, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, y_label: str) -> Markup:
    left, right, floor = _LEFT, WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = [_TEXT.format("label", 0, 14, "start", y_label)]
    for tick in y_ticks:
        parts.append(_LINE.format("axis" if tick == 0 else "grid", left, y(tick), right, y(tick)))
        parts.append(_TEXT.format("tick", left - 6, y(tick) + 4, "end", _short(tick)))
    if x_label:
        parts += [_TEXT.format("tick", x(tick), floor + 16, "middle", _short(tick)) for tick in x_ticks]
        parts.append(_TEXT.format("label", (left + right) / 2, floor + 36, "middle", x_label))
    return Markup("").join(parts)


def _scale(low: float, high: float, first: float, last: float) -> Scale:
    return lambda value: first + (last - first) * (value - low) / (high - low)


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `_MAX_POINTS` points, chosen evenly, including the first and the last one."""
    if len(points) <= _MAX_POINTS:
        return list(points)
    return [points[round(index * (len(points) - 1) / (_MAX_POINTS - 1))] for index in range(_MAX_POINTS)]


def _envelope(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `_MAX_POINTS` points. Each stretch keeps its lowest and its highest point, so no peak is lost."""
    if len(points) <= _MAX_POINTS:
        return list(points)
    count, kept = _MAX_POINTS // 2, list[tuple[float, float]]()
    for index in range(count):
        stretch = points[index * len(points) // count : (index + 1) * len(points) // count]
        kept += sorted({min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])})
    return kept


def _step(high: float) -> float:
    """The smallest step that divides 0 to `high` into at most five.

    Steps are 1, 2, 2.5 or 5 times a power of ten.
    """
    power = 10.0 ** math.floor(math.log10(high / 5))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if power * factor * 5 >= high * (1 - 1e-9))


def _nice_top(high: float) -> float:
    """The upper end of an axis that starts at 0 and includes `high`.

    >>> _nice_top(58.0), _nice_top(100.0), _nice_top(0.0)
    (60.0, 100.0, 1.0)
    """
    return _step(high) * math.ceil(high / _step(high) - 1e-9) if high > 0 else 1.0


def _ticks(high: float) -> list[float]:
    """Round numbers from 0 to `high`.

    >>> _ticks(100), _ticks(60.0)
    ([0.0, 20.0, 40.0, 60.0, 80.0, 100.0], [0.0, 20.0, 40.0, 60.0])
    """
    step = _step(high)
    return [round(index * step, 10) for index in range(int(high / step + 1e-9) + 1)]


def _ticks_between(low: float, high: float) -> list[float]:
    """Round numbers that enclose `low`, which is 0 or less, and `high`, which is 0 or more.

    >>> _ticks_between(0.0, 58.0), _ticks_between(-0.7, 0.2), _ticks_between(0.0, 0.0)
    ([0.0, 20.0, 40.0, 60.0], [-0.8, -0.6, -0.4, -0.2, 0.0, 0.2], [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    """
    if low == high:
        return _ticks(1.0)
    step = _step(high - low)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def _short(value: float) -> str:
    """A number in few characters.

    >>> _short(950), _short(12034), _short(0.00005), _short(-0.5)
    ('950', '12k', '5e-5', '-0.5')
    """
    return plain(f"{value:g}") if abs(value) < 10_000 else f"{value / 1000:.0f}k"
