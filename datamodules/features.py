class FeatureError(Exception):
    pass
