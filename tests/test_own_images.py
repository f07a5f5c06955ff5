"""Claims about images of one's own: a folder of class folders, an npz file, and what is wrong with either."""

import numpy as np
import pytest

from hypernas.data import load_images
from hypernas.data.images import kind_of
from hypernas.errors import UserError
from hypernas.lab.labelling import Labelling, label
from hypernas.lab.runner import Workers


@pytest.fixture
def arrays(rng):
    """Forty pictures of two classes: dark ones and bright ones."""
    labels = np.arange(40) % 2
    images = (rng.integers(0, 60, (40, 8, 8, 3)) + 150 * labels[:, None, None, None]).astype(np.uint8)
    return images, labels


def test_an_npz_file_is_split_once_and_for_all_and_any_order_of_axes_is_the_same(arrays, tmp_path):
    images, labels = arrays
    np.savez(tmp_path / "last.npz", images=images, labels=labels)
    np.savez(tmp_path / "first.npz", images=images.transpose(0, 3, 1, 2), labels=labels)
    last, first = (load_images(str(tmp_path / name)) for name in ("last.npz", "first.npz"))
    assert last.train_images.shape == (32, 3, 8, 8)
    assert last.test_images.shape == (8, 3, 8, 8)
    assert last.train_images.equal(first.train_images)
    assert kind_of(str(tmp_path / "last.npz")) == (3, 8, 2)
    assert (last.train_images.mean((1, 2, 3)) > 0).long().equal(last.train_labels)


def test_parts_of_an_npz_file_stay_what_they_are(arrays, tmp_path):
    images, labels = arrays
    parts = {"x_train": images[:30], "y_train": labels[:30], "x_test": images[30:], "y_test": labels[30:]}
    np.savez(tmp_path / "parts.npz", **parts)
    loaded = load_images(str(tmp_path / "parts.npz"))
    assert loaded.train_labels.tolist() == labels[:30].tolist()
    assert "30 for training, 10 for test" in loaded.source


def test_a_folder_of_class_folders_is_read_and_labelled(arrays, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for number, (picture, kind) in enumerate(zip(*arrays, strict=True)):
        folder = tmp_path / "pictures" / ("bright" if kind else "dark")
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(picture).save(folder / f"{number}.png")
    loaded = load_images(f"{tmp_path}/pictures")
    assert loaded.train_images.shape == (32, 3, 32, 32)
    bright = loaded.train_images.mean((1, 2, 3)) > 0
    assert (~bright).long().equal(loaded.train_labels)  # bright comes before dark
    recipe = Labelling("nasbench201", f"{tmp_path}/pictures", n=2, epochs=1, seeds=1, channels=1, cells_per_stage=1,
                    batch=8, n_validation=8)  # fmt: skip
    assert label(recipe, tmp_path / "own.parquet", workers=Workers(1), progress=False).exists()
    (tmp_path / "pictures" / "dark" / "0.png").write_bytes(b"no picture")
    (tmp_path / "pictures2").mkdir()
    (tmp_path / "pictures" / "dark").rename(tmp_path / "pictures2" / "dark")
    with pytest.raises(UserError, match=r"a picture must be whole, .*0\.png is not"):
        load_images(f"{tmp_path}/pictures2")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"labels": np.arange(39)}, "must hold a label an image and two or more, got 39 and 40"),
        ({"labels": np.linspace(0, 1, 40)}, "labels of .* must be whole numbers from 0 up"),
        ({"images": np.zeros((40, 8, 6, 3))}, "must be square with sides of a multiple of 4"),
        ({"images": np.zeros((40, 8, 8, 5))}, "must have one or three channels"),
        ({"images": np.full((40, 8, 8), np.nan)}, "must be finite numbers"),
        ({"images": np.zeros(40)}, "must have 3 or 4 axes and one"),
    ],
)
def test_wrong_arrays_are_one_sentence(arrays, tmp_path, changed, words):
    np.savez(tmp_path / "own.npz", **{"images": arrays[0], "labels": arrays[1], **changed})
    with pytest.raises(UserError, match=words):
        load_images(str(tmp_path / "own.npz"))


def test_a_path_that_is_nothing_is_named(tmp_path):
    with pytest.raises(UserError, match="must be a folder of class folders or an npz file"):
        load_images(str(tmp_path / "absent.npz"))
    (tmp_path / "torn.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="must be a whole npz file of plain arrays"):
        load_images(str(tmp_path / "torn.npz"))
