"""Claims about the auxiliary images beside digits and CIFAR-10: Fashion-MNIST, mixtures, controls, fewer images."""

import gzip
import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from hypernas.data import catalogue, images
from hypernas.data.images import load_images
from hypernas.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty $HYPERNAS_DATA; no cache and no package of the system has anything."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("HYPERNAS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    known = tuple(replace(each, system=str(tmp_path / "usr" / each.name)) for each in catalogue.sources())
    monkeypatch.setattr(catalogue, "sources", lambda: known)
    return tmp_path


def put(folder, name, content, monkeypatch, place="data"):
    """Write `content` as the file of source `name`, with its checksum, or as the system's, without."""
    entry = catalogue.get_source(name)
    path = folder / "data" / entry.files if place == "data" else folder / "usr" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if place == "data":
        changed = replace(entry, sha256="", md5=hashlib.md5(content).hexdigest())
        known = tuple(changed if each.name == name else each for each in catalogue.sources())
        monkeypatch.setattr(catalogue, "sources", lambda: known)
    return path


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(head + array.astype(np.uint8).tobytes())


def fashion(folder, monkeypatch, n=(20, 10), place="data", **changed):
    """The four files with n images of 28 x 28; label i is i mod 10 and pixel (0, 0) of image i is i."""
    written = {}
    for part, count in zip(("fashion-mnist", "fashion-mnist-test"), n, strict=True):
        pixels = np.random.default_rng(0).integers(0, 256, (count, 28, 28))
        pixels[:, 0, 0] = np.arange(count)
        written |= {part: idx(pixels), f"{part}-labels": idx(np.arange(count) % 10)}
    for name, content in (written | {k.replace("_", "-"): v for k, v in changed.items()}).items():
        put(folder, name, content, monkeypatch, place)


def cifar(folder, monkeypatch, n=30):
    pixels = np.random.default_rng(1).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    labels, file = np.arange(n, dtype=np.uint8) % 10, io.BytesIO()
    np.savez(file, x_train=pixels, y_train=labels, x_test=pixels[:10], y_test=labels[:10])
    content = file.getvalue()
    entry = replace(catalogue.get_source("cifar10"), sha256=hashlib.sha256(content).hexdigest())
    known = tuple(entry if each.name == "cifar10" else each for each in catalogue.sources())
    monkeypatch.setattr(catalogue, "sources", lambda: known)
    (folder / "data" / "images").mkdir(exist_ok=True)
    (folder / "data" / entry.files).write_bytes(content)


def assert_standardised(shown):
    assert shown.mean((0, 2, 3)).abs().max() < 1e-4
    assert shown.std((0, 2, 3), correction=0).sub(1).abs().max() < 1e-3


@pytest.mark.parametrize("place", ["data", "usr"])
def test_fashion_mnist_is_padded_to_a_side_that_can_be_halved(folder, monkeypatch, place):
    fashion(folder, monkeypatch, place=place)
    loaded = load_images("fashion-mnist")
    assert loaded.train_images.shape == (20, 1, 32, 32)
    assert loaded.test_images.shape == (10, 1, 32, 32)
    assert loaded.train_labels.tolist() == [i % 10 for i in range(20)]
    assert loaded.n_classes == 10
    assert_standardised(loaded.train_images)
    border, corner = loaded.train_images[:, 0, 0, 0], loaded.train_images[:, 0, 2, 2]
    assert (border == border[0]).all()
    assert corner[0] == border[0]
    assert (corner.diff() > 0).all()


def test_fashion_mnist_in_part_names_the_commands_that_bring_the_rest(folder, monkeypatch):
    fashion(folder, monkeypatch)
    (folder / "data" / catalogue.get_source("fashion-mnist-labels").files).unlink()
    words = r"^images 'fashion-mnist' need a file that is not here: `hypernas data fetch fashion-mnist-labels`, "
    with pytest.raises(UserError, match=words + "install Debian's dataset-fashion-mnist, or take images 'digits'$"):
        load_images("fashion-mnist")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fashion_mnist": gzip.compress(b"\0\0\x08\x03")}, "must be a whole IDX file of bytes with 3 axes"),
        ({"fashion_mnist": gzip.compress(b"\0\0")}, "must be a whole IDX file of bytes with 3 axes, got 2 bytes"),
        ({"fashion_mnist": idx(np.zeros((20, 28, 28)))[:-9]}, "must be a whole gzip file"),
        ({"fashion_mnist": idx(np.zeros((20, 27, 28)))}, "fashion-mnist must hold images of 28 x 28"),
        ({"fashion_mnist_test_labels": idx(np.zeros(9))}, "a label each, got .*9"),
        ({"fashion_mnist_labels": idx(np.zeros((20, 2)))}, "IDX file of bytes with 1 axes"),
    ],
)
def test_a_damaged_file_of_fashion_mnist_is_one_sentence(folder, monkeypatch, changed, words):
    fashion(folder, monkeypatch, **changed)
    with pytest.raises(UserError, match=words):
        load_images("fashion-mnist")


def test_a_file_of_the_system_is_listed_and_its_checksum_is_its_packages_affair(folder, monkeypatch):
    path = put(folder, "fashion-mnist", b"compressed anew", monkeypatch, place="usr")
    assert catalogue.find("fashion-mnist") == path
    assert (
        catalogue.status(catalogue.get_source("fashion-mnist")) == "present (package of the system, no checksum known)"
    )
    put(folder, "fashion-mnist", b"good", monkeypatch)
    (folder / "data" / catalogue.get_source("fashion-mnist").files).write_bytes(b"altered")
    with pytest.raises(UserError, match="md5 of fashion-mnist"):
        catalogue.find("fashion-mnist")


def test_a_mixture_has_the_images_of_both_at_one_size_and_the_classes_of_both(folder, monkeypatch):
    cifar(folder, monkeypatch)
    mixed, digits, colour = (load_images(name) for name in ("digits+cifar10", "digits", "cifar10"))
    assert mixed.train_images.shape == (1437 + 30, 3, 8, 8)
    assert mixed.test_images.shape == (360 + 10, 3, 8, 8)
    assert mixed.n_classes == 20
    assert_standardised(mixed.train_images)
    grey = (mixed.train_images[:, 0] - mixed.train_images[:, 1]).std((1, 2)) < 1e-3
    of_digits = mixed.train_labels < 10
    assert (mixed.train_labels[of_digits].bincount() == digits.train_labels.bincount()).all()
    assert (mixed.train_labels[~of_digits].bincount()[10:] == colour.train_labels.bincount()).all()
    assert of_digits.sum() == 1437
    assert not of_digits[:1437].all()
    assert grey[of_digits].float().mean() > grey[~of_digits].float().mean()


def test_a_mixed_image_keeps_its_label(folder, monkeypatch):
    """Up to its scale a digit is among the mixed ones unchanged, and a coloured one as its means of 4 x 4 pixels."""
    cifar(folder, monkeypatch)
    mixed = load_images("digits+cifar10")
    for name, offset, which in (("digits", 0, 5), ("cifar10", 10, 7)):
        part = load_images(name)
        wanted = torch.nn.functional.adaptive_avg_pool2d(part.train_images[which], 8)[0].flatten()
        rows = torch.cat([wanted[None], mixed.train_images[:, 0].flatten(1)])
        correlation = torch.corrcoef(rows)[0, 1:]
        assert correlation.max() > 0.9999
        assert int(mixed.train_labels[correlation.argmax()]) == int(part.train_labels[which]) + offset


@pytest.mark.parametrize(
    "name", ["digits", "digits-random-labels", "noise", "cifar10", "fashion-mnist", "digits+cifar10+fashion-mnist"]
)
def test_kind_is_what_the_images_turn_out_to_be(folder, monkeypatch, name):
    cifar(folder, monkeypatch)
    fashion(folder, monkeypatch)
    loaded = load_images(name)
    assert images.kind_of(name) == (*loaded.train_images.shape[1:3], loaded.n_classes)
    assert loaded.train_images.shape[2] == loaded.train_images.shape[3]


def test_random_labels_differ_from_the_true_ones_but_keep_class_frequencies():
    true, dealt = load_images("digits"), load_images("digits-random-labels")
    assert torch.equal(dealt.train_images, true.train_images)
    for ours, theirs in ((dealt.train_labels, true.train_labels), (dealt.test_labels, true.test_labels)):
        assert torch.equal(ours.bincount(), theirs.bincount())
        assert 0.05 < (ours == theirs).float().mean() < 0.15
    assert torch.equal(load_images("digits-random-labels").train_labels, dealt.train_labels)


def test_noise_has_the_shape_of_the_digits_and_nothing_of_their_content():
    digits, noise = load_images("digits"), load_images("noise")
    assert noise.train_images.shape == digits.train_images.shape
    assert noise.train_images.dtype == torch.float32
    assert torch.equal(noise.train_labels.bincount(), digits.train_labels.bincount())
    means = torch.stack([noise.train_images[noise.train_labels == k].mean(0) for k in range(10)])
    assert means.abs().max() < 0.4
    assert noise.train_images.std() == pytest.approx(1, abs=0.01)
    assert not torch.equal(noise.test_images[:5], noise.train_images[:5])


@pytest.mark.parametrize("name", ["digits", "noise"])
def test_fewer_images_are_a_prefix_of_more_and_the_test_images_stay(name):
    few, more, whole = (load_images(name, n) for n in (100, 300, 0))
    assert len(few.train_labels) == 100
    assert torch.equal(few.train_images, more.train_images[:100])
    assert torch.equal(few.train_labels, more.train_labels[:100])
    assert torch.equal(few.test_images, whole.test_images)
    assert few.n_classes == whole.n_classes == 10
    everything = {image.numpy().tobytes() for image in whole.train_images}
    assert {image.numpy().tobytes() for image in more.train_images} < everything
    assert "100 of those" in few.source


@pytest.mark.parametrize("n", [-1, 1438])
def test_more_images_than_there_are_is_a_user_error(n):
    with pytest.raises(UserError, match=f"^n_images must be from 1 to 1437 for digits, or 0 for all, got {n}$"):
        load_images("digits", n)


@pytest.mark.parametrize("name", ["mnist", "digits+mnist", "digits+digits", "+", ""])
def test_unknown_images_are_one_sentence_with_the_known_ones(name):
    known = ", ".join(images.image_names())
    with pytest.raises(UserError) as told:
        load_images(name)
    assert str(told.value) == f"images must be one of {known}, different ones joined by +, or a path, got {name!r}"
