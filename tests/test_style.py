"""The library stays readable: few syntax nodes a line, comments that say why, short functions, few rooms."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "hypernas"
# All share what is counted, which takes a second.
pytestmark = pytest.mark.xdist_group("style")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
CONTEXTS = (ast.Load, ast.Store, ast.Del)
SILENT = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
# Most syntax nodes a code line in a file and over all; libraries that are read for pleasure have 4 to 7.5.
DENSEST_FILE, DENSEST = 8.0, 6.8


def docstring_lines(tree):
    lines = set()
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            lines |= set(range(text.lineno, text.end_lineno + 1))
    return lines


def measured(text):
    """Syntax nodes, code lines, comment lines, all lines, and the length of each function of a file.

    A code line is neither blank, a comment nor part of a docstring.

    >>> measured("# why\\nx = 1\\n")[:4]
    (4, 1, 1, 2)
    """
    tree = ast.parse(text)
    documentation = docstring_lines(tree)
    code, comments = set(), set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in SILENT:
            code |= set(range(token.start[0], token.end[0] + 1))
    code -= documentation
    nodes = [node for node in ast.walk(tree) if not isinstance(node, CONTEXTS)]
    nodes = [node for node in nodes if getattr(node, "lineno", None) not in documentation]
    lengths = [node.end_lineno - node.lineno + 1 for node in nodes if isinstance(node, FUNCTIONS)]
    return len(nodes), len(code), len(comments - code), text.count("\n"), lengths


@pytest.fixture(scope="module")
def sizes():
    return {path: measured(path.read_text(encoding="utf-8")) for path in sorted(LIBRARY.rglob("*.py"))}


@pytest.fixture(scope="module")
def counted(sizes):
    """A file of a few lines is an import or a registration; its density says nothing."""
    return {path: size for path, size in sizes.items() if size[1] >= 10}


def test_no_file_packs_more_than_eight_syntax_nodes_into_a_line(counted):
    dense = {str(path.relative_to(LIBRARY)): size[0] / size[1] for path, size in counted.items()}
    assert {name: density for name, density in dense.items() if density > DENSEST_FILE} == {}


def test_the_library_has_at_most_6_8_syntax_nodes_a_line_and_three_comments_in_a_hundred_lines(counted):
    nodes, code, comments, lines, _ = zip(*counted.values(), strict=True)
    assert sum(nodes) / sum(code) <= DENSEST
    assert sum(comments) / sum(lines) >= 0.03


def test_nine_of_ten_functions_fit_on_a_screen_and_none_is_longer_than_two(sizes):
    lengths = sorted(length for size in sizes.values() for length in size[4])
    assert lengths[int(0.9 * len(lengths))] <= 45
    assert lengths[-1] <= 100


def test_there_are_at_most_16_rooms_at_the_top():
    hidden = ("__pycache__", "shipped")
    assert len([entry for entry in LIBRARY.iterdir() if entry.name not in hidden]) <= 16


@pytest.mark.parametrize(
    ("text", "nodes", "lines"),
    [("x = [f(y) for y in z if y]\n", 11, 1), ('def f():\n    """No node."""\n    return 1\n', 5, 2)],
)
def test_density_counts_what_python_parses_and_no_documentation(text, nodes, lines):
    assert measured(text)[:2] == (nodes, lines)
