"""From a trained model to one that is served without the plugin.

- ``fold``       omega into LayerNorms and weights: a stock Transformer with the same outputs
- ``foldable``   what cannot be folded
- ``stock``      builds that stock Transformer
- ``compare``    does it put out the same
- ``export``     folds a checkpoint: ``admin-fairseq fold``
- ``ctranslate2_export``   for CTranslate2: ``admin-fairseq export``
- ``ctranslate2_compare``  does CTranslate2 compute the same
- ``int8_noise``  what near-zero omegas cost int8

Importing it needs neither torch nor fairseq: ``cli`` names the quantizations in its help.
"""

QUANTIZATIONS = (
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
    "int16",
    "float16",
    "bfloat16",
    "float32",
)
