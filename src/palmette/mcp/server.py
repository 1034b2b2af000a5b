"""The server: its tools, and its run over standard input and output.

Nothing but the protocol is written to standard output. While it serves, the library points the process's own standard
output at standard error, so a line that anything else prints does no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mcp.server import MCPServer
from mcp_types import ToolAnnotations

from palmette import __version__
from palmette.mcp.folders import Folders
from palmette.mcp.tools import Tools, in_words
from palmette.mcp.worker import Worker

if TYPE_CHECKING:  # it loads torch, for which no client should wait
    from palmette.serving.reader import DocumentReader

_INSTRUCTIONS = (
    "Reads documents on this machine, and copies answers from them word for word, with places and probabilities. Ask "
    "one fact in each question. An answer of null means that the document does not say it, or that it is not sure "
    "enough. Quote answers as they are."
)


def new_server(tools: Tools) -> MCPServer:
    """A server with these tools."""
    server: MCPServer = MCPServer("palmette", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING")
    for tool in (tools.list_documents, tools.ask_document, tools.extract_fields):
        reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
        server.add_tool(in_words(tool), annotations=reads, structured_output=True)
    return server


def serve_stdio(load: Callable[[], DocumentReader], folders: Folders) -> None:
    """Serve over standard input and output, until the input ends.

    Args:
        load: loads the model. It begins at once, and calls wait for it.
        folders: the folders whose files may be read.
    """
    worker = Worker(load)
    try:
        new_server(Tools(worker, folders)).run("stdio")
    finally:
        worker.close()
