"""jaxtal: weakly supervised temporal action localization on JAX.

The vocabulary, said once. Shapes:

- B videos in a batch, V videos in a data set, T snippets of a video, C action classes,
  D features per modality (a snippet has 2 * D: RGB first, optical flow second),
  K top-k, M population members. ``C + 1``: with the background class, always last.
- Time is the second to last axis of an activation sequence: ``cas`` [..., T, C], ``attention``
  [..., T, 1], ``embeddings`` [..., T, E]; a ``mask`` [..., T] is true where a snippet exists.

Words:

- snippet: 16 consecutive frames of the 25 fps video, 0.64 s; the unit of time inside the package.
- T-CAM or CAS: the temporal class activation map (class activation sequence) of a video.
- attention: how much a snippet looks like action of any class, 0 to 1.
- L_mil, L_cas, L_ml, L_oppo, L_norm: CO2-Net's losses, in `losses.py` under their full names.
- L_Dis, L_F, L_CE: D2-Net's discriminative loss and what is left of it without its weights, in
  `discriminative.py`. L_D = L_DS + L_DV: its denoising loss, `snippet_denoising` and
  `video_denoising` in `methods/d2net.py`, by pDMI of a joint matrix, `mutual_information.py`.
- lambda, lambda': D2-Net's top-down attention (largest T-CAM entry of a snippet) and bottom-up
  attention (how unlike the running background embedding r its embedding is).
- L_fg, L_ct, L_bg: the two-stream network's cross-entropies under its foreground, context and
  background attention; L_gui, L_smt: its guide and semantic loss; Q: its semantic dictionary, a
  centroid for every class: all in `methods/twostream.py`.
- row: what a network is fed of a video at one time; a snippet, unless the method thins out.
- proposal: a candidate segment of one class; detection: a proposal that came through NMS.
- t-IoU: intersection over union of two segments in time; mAP: mean average precision.

"METHODS 2.c", "DATA.md" and "FIXTURES.md" in comments are the specification that the package was
written from, in ``../shared`` beside the checkout.
"""

__version__ = "0.1.0"
