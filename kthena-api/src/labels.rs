//! Every label, annotation, environment variable and fixed name that the kinds agree on.
//!
//! One file, so that the controller, the proxy, the charts' tests and other operators spell them alike.

/// API group of the traffic kinds.
pub const NETWORKING_GROUP: &str = "networking.serving.volcano.sh";
/// API group of the workload kinds; also the value of [`MANAGED_BY`].
pub const WORKLOAD_GROUP: &str = "workload.serving.volcano.sh";
/// The one version of every kind.
pub const VERSION: &str = "v1alpha1";

// --- Labels of what a ModelServing owns ---

/// Label on pods, Services, PodGroups and ControllerRevisions: name of the ModelServing.
pub const MODEL_SERVING_NAME: &str = "modelserving.volcano.sh/name";
/// Label on pods, Services and PodGroups: `<serving>-<group ordinal>`.
pub const GROUP_NAME: &str = "modelserving.volcano.sh/group-name";
/// Label on pods and Services: name of the role.
pub const ROLE: &str = "modelserving.volcano.sh/role";
/// Label on pods and Services: `<role>-<instance ordinal>`.
pub const ROLE_ID: &str = "modelserving.volcano.sh/role-id";
/// Label on entry pods alone, with the value [`TRUE`]; worker pods lack it.
pub const ENTRY: &str = "modelserving.volcano.sh/entry";
/// Label on pods and ControllerRevisions: revision of the ModelServing's template.
pub const REVISION: &str = "modelserving.volcano.sh/revision";
/// Label on pods: hash of the role's templates.
pub const ROLE_TEMPLATE_HASH: &str = "modelserving.volcano.sh/role-template-hash";

// --- Labels of what a ModelBooster owns, and of its pods ---

/// Label: name of the ModelBooster.
pub const BOOSTER_NAME: &str = "workload.serving.volcano.sh/model-name";
/// Label: name of the backend; empty on the ModelRoute.
pub const BOOSTER_BACKEND: &str = "workload.serving.volcano.sh/backend-name";
/// Label: always [`WORKLOAD_GROUP`].
pub const MANAGED_BY: &str = "workload.serving.volcano.sh/managed-by";
/// Label: hash of what the child was generated from.
pub const BOOSTER_REVISION: &str = "workload.serving.volcano.sh/revision";
/// Label: UID of the ModelBooster; the generated ModelServer selects pods by it.
pub const BOOSTER_UID: &str = "workload.serving.volcano.sh/model-uid";

// --- Labels that make a Secret visible to the proxy ---

/// Label on a Secret, with the value [`TRUE`]: an ExternalModelProvider may use it as its credential.
pub const EXTERNAL_MODEL_PROVIDER_CREDENTIAL: &str =
    "networking.serving.volcano.sh/external-model-provider-credential";
/// Label on a Secret, with the value [`TRUE`]: a ModelServer may use it for TLS to its engines.
pub const UPSTREAM_TLS: &str = "networking.serving.volcano.sh/upstream-tls";

// --- Annotations of a ModelServer, which a pod overrides with the same key; see `annotation` ---

/// Port of the Mooncake bootstrap server of a prefill engine.
pub const MOONCAKE_BOOTSTRAP_PORT: &str = "networking.serving.volcano.sh/mooncake-bootstrap-port";
/// Port of the bootstrap server of an SGLang prefill engine.
pub const SGLANG_BOOTSTRAP_PORT: &str = "networking.serving.volcano.sh/sglang-bootstrap-port";
/// Port on which an engine publishes its KV cache events.
pub const KV_EVENTS_PORT: &str = "networking.serving.volcano.sh/kv-events-port";
/// Secret in the ModelServer's namespace whose `ca.crt` signs the engines' certificates.
pub const UPSTREAM_CA_SECRET: &str = "networking.serving.volcano.sh/upstream-ca-secret";
/// Secret in the ModelServer's namespace whose `tls.crt` and `tls.key` the proxy presents to the engines.
pub const UPSTREAM_CLIENT_CERT_SECRET: &str = "networking.serving.volcano.sh/upstream-client-cert-secret";
/// Name that the proxy asks for by SNI and expects in the engine's certificate.
pub const UPSTREAM_SERVER_NAME: &str = "networking.serving.volcano.sh/upstream-server-name";
/// With the value [`TRUE`], the proxy accepts any certificate from the engines.
pub const UPSTREAM_INSECURE_SKIP_VERIFY: &str = "networking.serving.volcano.sh/upstream-insecure-skip-verify";

// --- Annotations of ControllerRevisions ---

/// Annotation on a ControllerRevision: how its data are written. One without it was written by the reference's controller.
pub const REVISION_FORMAT: &str = "modelserving.volcano.sh/revision-format";
/// Annotation on a ControllerRevision: `<role>=<hash>` of pods that another controller has made from the same roles, separated
/// by commas.
pub const ADOPTED_ROLE_HASHES: &str = "modelserving.volcano.sh/adopted-role-hashes";

// --- Other annotations and labels ---

/// Annotation on a ModelServing, set by its user: Volcano queue of its PodGroups.
pub const QUEUE_NAME: &str = "scheduling.volcano.sh/queue-name";
/// Annotation on pods and PodGroups: name of the PodGroup.
pub const POD_GROUP_NAME: &str = "scheduling.k8s.io/group-name";
/// Annotation on pods: `<role>-<instance ordinal>`, the task that Volcano sees.
pub const VOLCANO_TASK_SPEC: &str = "volcano.sh/task-spec";
/// Annotation on a ModelServing, set by its user: with the value [`TRUE`] it gets a PodDisruptionBudget.
pub const POD_DISRUPTION_BUDGET: &str = "modelserving.volcano.sh/pod-disruption-budget";
/// Annotation on pods, with the value [`TRUE`]: their ServingGroup is there for the time of a rollout only.
pub const SURGE: &str = "modelserving.volcano.sh/surge";
/// Annotation on pods, set by their user: pods with a lower cost are removed first.
pub const POD_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Label on pods of a ModelServing that belongs to a LeaderWorkerSet: its name.
pub const LWS_NAME: &str = "leaderworkerset.sigs.k8s.io/name";
/// Label on pods of a ModelServing that belongs to a LeaderWorkerSet: index of the group.
pub const LWS_GROUP_INDEX: &str = "leaderworkerset.sigs.k8s.io/group-index";
/// Label on pods of a ModelServing that belongs to a LeaderWorkerSet: index of the pod in its group.
pub const LWS_WORKER_INDEX: &str = "leaderworkerset.sigs.k8s.io/worker-index";
/// Label on pods of a ModelServing that belongs to a LeaderWorkerSet: key shared by the group.
pub const LWS_GROUP_KEY: &str = "leaderworkerset.sigs.k8s.io/group-key";
/// Annotation on a ModelServing that belongs to a LeaderWorkerSet: the `replicas` of that which it has taken over.
pub const LWS_REPLICAS: &str = "leaderworkerset.sigs.k8s.io/replicas";
/// Annotation on pods of a ModelServing that belongs to a LeaderWorkerSet: pods in their group.
pub const LWS_SIZE: &str = "leaderworkerset.sigs.k8s.io/size";
/// Annotation on worker pods of a ModelServing that belongs to a LeaderWorkerSet: name of their leader's pod.
pub const LWS_LEADER_NAME: &str = "leaderworkerset.sigs.k8s.io/leader-name";
/// Plugin of a ModelServing that belongs to a LeaderWorkerSet: it puts the labels of a LeaderWorkerSet's pods on its pods.
pub const LWS_PLUGIN: &str = "lws-standard-labels";
/// Annotation on webhook configurations: cert-manager writes the CA of this Certificate into them.
pub const CERT_MANAGER_INJECT_CA_FROM: &str = "cert-manager.io/inject-ca-from";

/// What labels and annotations that are either set or absent are set to.
pub const TRUE: &str = "true";

// --- Environment of the containers of a ModelServing ---

/// Environment variable: number of pods of the role instance, entry pod included.
pub const ENV_GROUP_SIZE: &str = "GROUP_SIZE";
/// Environment variable: DNS name of the instance's entry pod.
pub const ENV_ENTRY_ADDRESS: &str = "ENTRY_ADDRESS";
/// Environment variable: 0 on the entry pod, 1 and more on worker pods.
pub const ENV_WORKER_INDEX: &str = "WORKER_INDEX";

/// Environment variable, where a LeaderWorkerSet is behind it: as [`ENV_ENTRY_ADDRESS`].
pub const ENV_LWS_LEADER_ADDRESS: &str = "LWS_LEADER_ADDRESS";
/// Environment variable, where a LeaderWorkerSet is behind it: as [`ENV_GROUP_SIZE`].
pub const ENV_LWS_GROUP_SIZE: &str = "LWS_GROUP_SIZE";
/// Environment variable, where a LeaderWorkerSet is behind it: as [`ENV_WORKER_INDEX`].
pub const ENV_LWS_WORKER_INDEX: &str = "LWS_WORKER_INDEX";

// --- Environment that a ModelBooster's backend understands ---

/// Environment variable of a backend: endpoint of the object store that the downloader reads.
pub const ENV_ENDPOINT: &str = "ENDPOINT";
/// Environment variable of a backend: mirror of the Hugging Face hub.
pub const ENV_HF_ENDPOINT: &str = "HF_ENDPOINT";
/// Environment variable of a backend: ModelScope access token.
pub const ENV_MS_TOKEN: &str = "MS_TOKEN";
/// Environment variable of a backend: revision of a ModelScope model.
pub const ENV_MS_REVISION: &str = "MS_REVISION";
/// Environment variable of a backend: port of the runtime sidecar, 8100 unless set.
pub const ENV_RUNTIME_PORT: &str = "RUNTIME_PORT";
/// Environment variable of a backend: where the sidecar finds the engine.
pub const ENV_RUNTIME_URL: &str = "RUNTIME_URL";
/// Environment variable of a backend: where the sidecar finds the engine's metrics, `/metrics` unless set.
pub const ENV_RUNTIME_METRICS_PATH: &str = "RUNTIME_METRICS_PATH";
/// Environment variable of a backend: with `true` the engine starts without installing dependencies first.
pub const ENV_SKIP_ENGINE_DEPENDENCY_INSTALL: &str = "KTHENA_SKIP_ENGINE_DEPENDENCY_INSTALL";

// --- Our own processes ---

/// Environment variable of our processes: the namespace they run in.
pub const ENV_POD_NAMESPACE: &str = "POD_NAMESPACE";
/// ConfigMap with the images that ModelBooster pods use.
pub const BOOSTER_CONFIG_MAP: &str = "model-booster-controller-config";
/// Key in [`BOOSTER_CONFIG_MAP`]: image of the downloader.
pub const BOOSTER_DOWNLOADER_IMAGE_KEY: &str = "model_serving_downloader_image";
/// Key in [`BOOSTER_CONFIG_MAP`]: image of the runtime sidecar.
pub const BOOSTER_RUNTIME_IMAGE_KEY: &str = "model_serving_runtime_image";
/// Source of the events on a ModelServing.
pub const MODEL_SERVING_EVENT_SOURCE: &str = "modelserving-controller";
/// Source of the events on a LeaderWorkerSet.
pub const LEADER_WORKER_SET_EVENT_SOURCE: &str = "leaderworkerset-controller";
/// Event on a ModelServing: instances of a role are being created.
pub const EVENT_ROLE_CREATING: &str = "RoleCreating";
/// Event on a ModelServing: a role instance runs.
pub const EVENT_ROLE_RUNNING: &str = "RoleRunning";
/// Event on a ModelServing: a role instance is being removed.
pub const EVENT_ROLE_DELETING: &str = "RoleDeleting";
/// Scheduler of a ModelServing that names none; PodGroups are made for it alone.
pub const DEFAULT_SCHEDULER: &str = "volcano";
