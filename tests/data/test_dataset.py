"""What is told about a data set as a whole."""

import numpy as np

from jaxtal.data.dataset import Dataset, Video, fingerprint


def test_fingerprints_tell_data_apart():
    def dataset(label=0, name="v", value=1.0, second=1.0):
        features = np.array([[value, 0], [second, 0]], np.float32)
        empty = np.empty((0, 2))
        video = Video(name, 1.28, np.array([label]), empty, empty[:, 0], empty, features)
        return Dataset("Tiny", ("a", "b"), (video,), (video,))

    base = fingerprint(dataset(), generated=False)
    assert base == fingerprint(dataset(), generated=False)
    for change in ({"label": 1}, {"name": "w"}, {"value": 2.0}):
        assert fingerprint(dataset(**change), generated=False)["checksum"] != base["checksum"]
    # Generated features may differ in their last bits from machine to machine.
    other = dataset(value=np.nextafter(np.float32(1), 2))
    assert fingerprint(other, generated=True) == fingerprint(dataset(), generated=True)
