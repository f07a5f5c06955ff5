"""Claims about the one door: files, folders, paths, objects and entry points give spaces by name."""

import os
from importlib.metadata import EntryPoint

import pytest
import torch

from hypernas import predictors, spaces
from hypernas.data import plugins
from hypernas.errors import UserError
from hypernas.spaces.base import SearchSpace
from hypernas.zero_cost import proxies

LINE = "from hypernas.spaces.nasbenchmacro import NASBenchMacro\n\n\nclass Mine(NASBenchMacro):\n    name = {!r}\n\n\n"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A function text, name -> the path of a plugin file, which the variable does not list yet."""
    monkeypatch.setenv("HYPERNAS_PLUGINS", "")

    def write(text, name="mine"):
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        return path

    return write


def space_file(file, name="mine"):
    return file(LINE.format(name) + "space = Mine()\n", name)


def test_a_path_gives_a_space_and_worker_processes_find_it_by_its_name(file):
    path = space_file(file)
    space = spaces.get(str(path))
    assert space.name == "mine"
    assert spaces.get("mine") is spaces.get(path) is space
    assert os.environ["HYPERNAS_PLUGINS"] == str(path)


def test_folders_and_files_of_the_variable_are_listed_beside_ours(file, monkeypatch):
    path, before = space_file(file), spaces.names()
    monkeypatch.setenv("HYPERNAS_PLUGINS", str(path.parent))
    assert spaces.names() == sorted([*before, "mine"])
    monkeypatch.setenv("HYPERNAS_PLUGINS", os.pathsep.join([str(path), str(path)]))
    assert spaces.names() == sorted([*before, "mine"])


def test_an_entry_point_of_another_package_is_found(monkeypatch):
    entry = EntryPoint("nasbench201_again", "hypernas.spaces.nasbench201:space", "hypernas.spaces")
    monkeypatch.setattr(plugins, "_entry_points", lambda group: {entry.name: entry})
    assert "nasbench201_again" in spaces.names()
    with pytest.raises(UserError, match="must be named as its file, got 'nasbench201' in nasbench201_again"):
        spaces.get("nasbench201_again")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("space = 1 +\n", r"must be a file that imports, got SyntaxError: "),
        (
            "import no_such_module\nspace = 1\n",
            r"must be a file that imports, got ModuleNotFoundError: .*no_such_module",
        ),
        ("space = 5\n", r"`space` of mine must be an instance of a class of SearchSpace, got int"),
        ("thing = 5\n", r"must provide exactly one as `space`, got 0"),
        (LINE.format("other") + "space = Mine()\n", r"must be named as its file, got 'other' in mine.py"),
        (
            LINE.format("mine") + "    def trainable_paramters(self, graphs): ...\n\nspace = Mine()\n",
            r"has no 'trainable_paramters', got one in Mine: is 'trainable_parameters' meant\?",
        ),
    ],
)
def test_a_file_that_provides_no_space_is_one_sentence(file, text, told):
    with pytest.raises(UserError, match=told) as caught:
        spaces.get(file(text.replace("\n\n\n    def", "\n    def")))
    assert "\n" not in str(caught.value)


def test_two_files_of_one_name_are_refused(file, monkeypatch):
    monkeypatch.setenv("HYPERNAS_PLUGINS", str(space_file(file, "nasbench201").parent))
    with pytest.raises(UserError, match=r"must have a name of its own, 'nasbench201' is in .* and "):
        spaces.names()


def test_a_place_that_does_not_exist_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="must be a Python file, found none at"):
        spaces.get(tmp_path / "no.py")
    monkeypatch.setenv("HYPERNAS_PLUGINS", str(tmp_path / "no"))
    with pytest.raises(UserError, match="HYPERNAS_PLUGINS must list files and folders that exist, got"):
        spaces.get("nasbench201")


def test_an_object_is_found_by_its_name_but_never_in_place_of_a_file(file, monkeypatch):
    monkeypatch.setattr(spaces.REGISTRY, "objects", {})
    ours = spaces.get("nasbenchmacro")
    twin = type(ours)()
    assert spaces.get(twin) is twin
    assert spaces.get("nasbenchmacro") is ours
    twin.name = "twin"
    assert spaces.get(twin) is spaces.get("twin") is twin


def test_a_proxy_of_a_file_stands_beside_ours_and_leaves_the_network_as_it_is(file, monkeypatch):
    text = "def first(network, images, labels):\n    weight = next(network.parameters())\n    weight.data += 1\n"
    path = file(text + "    return weight.sum()\n\n\nPROXIES = {'first-weight': first, 'broken': 5}\n", "mine")
    monkeypatch.setenv("HYPERNAS_PLUGINS", str(path))
    assert proxies.names()[0] in proxies.PROXIES
    assert proxies.names()[-2:] == ["broken", "first-weight"]
    network = torch.nn.Linear(1, 1, bias=False)
    before = network.weight.item()
    assert proxies.get("first-weight")(network, None, None) == pytest.approx(before + 1)
    assert network.weight.item() == before
    with pytest.raises(UserError, match="must be a function of network, images, labels, got 5 for broken"):
        proxies.get("broken")
    with pytest.raises(UserError, match=r"a zero-cost method must be one of .*, first-weight, got 'third'"):
        proxies.get("third")


def test_a_space_without_a_required_method_cannot_be_made():
    class Empty(SearchSpace):
        name = "empty"

    with pytest.raises(TypeError, match="abstract"):
        Empty()


def test_a_seed_stands_for_its_generator_and_nothing_else_does():
    space = spaces.get("nasbenchmacro")
    assert space.sample(3) == space.sample(3)
    assert space.mutate(space.sample(3), 4) == space.mutate(space.sample(3), 4)
    for wrong in (None, -1, "0", 1.5):
        with pytest.raises(UserError, match=r"rng must be a numpy.random.Generator or a seed"):
            space.sample(wrong)


@pytest.mark.parametrize("wrong", [5, None, b"x", 1.5])
@pytest.mark.parametrize("name", ["nasbench101", "nasbench201_depth", "nasbenchmacro", "vit"])
def test_what_is_no_text_is_one_sentence(name, wrong):
    with pytest.raises(UserError, match="architecture must be written as text, got"):
        spaces.get(name).parse(wrong)


@pytest.mark.parametrize("name", [{}, [], None, 5])
@pytest.mark.parametrize("get", [spaces.get, predictors.get])
def test_what_is_no_name_is_one_sentence(get, name):
    with pytest.raises(UserError, match="must be a name or a path, got "):
        get(name)
