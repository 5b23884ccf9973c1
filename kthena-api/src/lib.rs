//! Types, defaults and validation of the Kthena Kubernetes API: ModelServing, ModelBooster, AutoscalingPolicy, ModelRoute, ModelServer, ExternalModelProvider.
