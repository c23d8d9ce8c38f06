import numpy as np
import pytest

from earsight.transforms.statistics_file import read_statistics

MEAN, STD = np.linspace(-40, -20, 5), np.linspace(5, 9, 5)


def test_both_layouts(tmp_path):
    np.savez(tmp_path / "a.npz", mean=MEAN, std=STD)
    np.savez(tmp_path / "b.npz", mean=MEAN[:, None].astype(np.float32), std=STD[None])
    np.save(tmp_path / "c.npy", np.stack([MEAN, STD]))
    for name in ("a.npz", "b.npz", "c.npy"):
        mean, std = read_statistics(tmp_path / name, 5)
        np.testing.assert_allclose(mean.numpy(), MEAN, rtol=1e-6)
        np.testing.assert_allclose(std.numpy(), STD, rtol=1e-6)


def refused(path, bands=5):
    with pytest.raises(ValueError) as caught:
        read_statistics(path, bands)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_files_that_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    assert "no such file" in refused(path)
    np.savez(path, mean=MEAN, std=STD)
    assert "(5,), but audio.bands is 257" in refused(path, 257)
    np.savez(path, mu=MEAN, sigma=STD)
    assert "arrays mean and std" in refused(path)
    np.savez(path, mean=MEAN, std=np.array([1, 2, "a", None, 3], dtype=object))
    assert "arrays mean and std" in refused(path)
    np.savez(path, mean=np.arange(5), std=STD)
    assert "floating-point" in refused(path)
    np.savez(path, mean=MEAN, std=-STD)
    assert "below 0" in refused(path)
    np.savez(path, mean=MEAN * np.nan, std=STD)
    assert "finite" in refused(path)
    for content in (b"", b"mean,std\n1,2\n", b"PK\x03\x04 cut short"):
        path.write_bytes(content)
        assert "arrays mean and std" in refused(path)
    np.save(tmp_path / "three.npy", np.ones((3, 5)))
    assert "two rows" in refused(tmp_path / "three.npy")
    np.save(tmp_path / "scalar.npy", np.float64(1))
    assert "two rows" in refused(tmp_path / "scalar.npy")
    assert "arrays mean and std" in refused(tmp_path)
