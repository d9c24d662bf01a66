"""From a trained model to one that is served without the plugin.

- ``fold``       omega into LayerNorms and weights: a stock Transformer with the same outputs
- ``stock``      builds that stock Transformer
- ``export``     folded checkpoints, compared before they are written
- ``ctranslate2_export``   for CTranslate2
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
