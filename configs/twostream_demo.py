"""The two-stream network on generated untrimmed videos: nothing to download.

46.0 ± 1.4 average mAP (t-IoU 0.1:0.7, protocol official, last step, seeds 0 to 4), in a minute on 2
CPU cores:

    python -m jaxtal.main --config configs/twostream_demo.py

The videos are those of configs/co2net_demo.py. `--config configs/twostream_demo.py:ROW` selects a
row of the paper's tables, see configs/twostream_thumos.py.
"""

from ml_collections import ConfigDict

from jaxtal.configs import co2net_demo, twostream_thumos


def get_config(row: str = "full") -> ConfigDict:
    """Return the THUMOS14 config with smaller values and generated videos.

    Args:
        row: see `twostream_thumos.get_config`.
    """
    config = twostream_thumos.get_config(row)
    config.seed = 0
    config.data = co2net_demo.get_config().data
    config.data.num_snippets = 200  # [snippets] T; most videos are shorter
    config.data.test_snippets = config.data.get_oneway_ref("num_snippets")
    # An epoch of 100 videos has 7 steps: 143 epochs.
    config.train.update(epochs=0, steps=1000, log_every=20, eval_every=200)
    config.loss.warmup_steps = 100
    # With "residual" the foreground attention of some seeds vanishes (docs/results/generated.md).
    config.model.embedding = "plain"
    return config
