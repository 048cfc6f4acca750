//! What `kubectl apply` would send, as far as a kubelet needs it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// The dev overlay's workloads, Services and settings, kept current by a test in `deploy/k8s/tests`.
const RENDERED: &str = include_str!("../../../../deploy/k8s/tests/rendered-dev.json");

/// All objects.
pub(crate) struct Manifests {
    objects: Vec<Value>,
}

impl Manifests {
    /// Those of the dev overlay.
    pub(crate) fn dev() -> Self {
        Self { objects: serde_json::from_str(RENDERED).unwrap() }
    }

    /// A workload.
    pub(crate) fn workload(&self, kind: &str, name: &str) -> Workload {
        let object = self.named(kind, |found| found == name);
        Workload { object: object.clone() }
    }

    /// The data of a ConfigMap; `name` without the hash of its content.
    pub(crate) fn settings(&mut self, name: &str) -> &mut serde_json::Map<String, Value> {
        let is_it = |object: &Value| {
            object["kind"] == "ConfigMap"
                && object["metadata"]["name"].as_str().unwrap().starts_with(name)
        };
        let object = self.objects.iter_mut().find(|object| is_it(object));
        object.unwrap_or_else(|| panic!("no ConfigMap {name}"))["data"].as_object_mut().unwrap()
    }

    fn config_map(&self, name: &str) -> BTreeMap<String, String> {
        let data = &self.named("ConfigMap", |found| found == name)["data"];
        serde_json::from_value(data.clone()).unwrap()
    }

    fn named(&self, kind: &str, is_it: impl Fn(&str) -> bool) -> &Value {
        let mut objects = self.objects.iter().filter(|object| object["kind"] == kind);
        objects
            .find(|object| is_it(object["metadata"]["name"].as_str().unwrap()))
            .unwrap_or_else(|| panic!("no such {kind}"))
    }
}

/// A StatefulSet, a Deployment, a Job or a Service.
pub(crate) struct Workload {
    object: Value,
}

impl Workload {
    /// How many pods it starts with.
    pub(crate) fn replicas(&self) -> usize {
        usize::try_from(self.object["spec"]["replicas"].as_u64().unwrap()).unwrap()
    }

    /// How long a new pod must be ready before the next one is replaced.
    pub(crate) fn min_ready(&self) -> Duration {
        Duration::from_secs(self.object["spec"]["minReadySeconds"].as_u64().unwrap_or(0))
    }

    /// How many pods more, and how many fewer, there may be while it is updated (a Deployment).
    pub(crate) fn surge(&self) -> (u64, u64) {
        let rule = &self.object["spec"]["strategy"]["rollingUpdate"];
        let count = |key: &str| rule[key].as_u64().unwrap();
        (count("maxSurge"), count("maxUnavailable"))
    }

    /// Its name within its namespace, as other pods know it.
    pub(crate) fn host(&self) -> String {
        let text = |key: &str| self.object["metadata"][key].as_str().unwrap();
        format!("{}.{}", text("name"), text("namespace"))
    }

    /// A Service's port of a name.
    pub(crate) fn port(&self, name: &str) -> u64 {
        let ports = self.object["spec"]["ports"].as_array().unwrap();
        ports.iter().find(|port| port["name"] == name).unwrap()["port"].as_u64().unwrap()
    }

    /// Whether its pods are started without waiting for each other.
    pub(crate) fn is_parallel(&self) -> bool {
        self.object["spec"]["podManagementPolicy"] == "Parallel"
    }

    /// Its pods.
    pub(crate) fn pod(&self, manifests: &Manifests) -> PodSpec {
        PodSpec::parse(&self.object["spec"]["template"]["spec"], manifests)
    }
}

/// What a pod of one container says about itself.
#[derive(Clone, Debug)]
pub(crate) struct PodSpec {
    /// The image without its version; what the container files make of it is the program of this name.
    pub(crate) image: String,
    /// In place of the image's entry point.
    pub(crate) command: Vec<String>,
    /// Behind it.
    pub(crate) args: Vec<String>,
    /// Variables in order, their values not expanded.
    pub(crate) env: Vec<(String, String)>,
    /// Ports by name.
    pub(crate) ports: BTreeMap<String, u16>,
    /// From the request to stop until SIGKILL, `preStop` included.
    pub(crate) grace: Duration,
    /// What is run before SIGTERM.
    pub(crate) pre_stop: Option<Vec<String>>,
    /// Must succeed before the other two count.
    pub(crate) startup: Option<Probe>,
    /// Decides whether traffic comes.
    pub(crate) readiness: Option<Probe>,
    /// Decides whether the container is restarted.
    pub(crate) liveness: Option<Probe>,
    /// Where what is mounted.
    pub(crate) mounts: Vec<Mount>,
}

/// An HTTP probe.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// What is asked for.
    pub(crate) path: String,
    /// The port's name.
    pub(crate) port: String,
    /// How often.
    pub(crate) period: Duration,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    /// Failures in a row that count as one.
    pub(crate) failures: u32,
}

/// A directory in the container.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    /// Where.
    pub(crate) path: String,
    /// What.
    pub(crate) source: Source,
}

/// What a mounted directory holds.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Files with these contents.
    Files(BTreeMap<String, String>),
    /// The files of this Secret.
    Secret(String),
    /// The pod's own disk, which outlives it.
    Claim,
    /// Nothing, anew with every pod.
    Empty,
}

impl PodSpec {
    fn parse(spec: &Value, manifests: &Manifests) -> Self {
        let containers = spec["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1, "this kubelet knows pods of one container");
        let container = &containers[0];
        let seconds = |value: &Value| Duration::from_secs(value.as_u64().unwrap());
        let image = container["image"].as_str().unwrap();
        let mut env = Vec::new();
        for source in container["envFrom"].as_array().into_iter().flatten() {
            env.extend(manifests.config_map(source["configMapRef"]["name"].as_str().unwrap()));
        }
        for variable in container["env"].as_array().into_iter().flatten() {
            let name = variable["name"].as_str().unwrap().to_owned();
            let from_pod = &variable["valueFrom"]["fieldRef"]["fieldPath"];
            let value = match from_pod.as_str() {
                Some(path) => format!("$({path})"),
                None => variable["value"].as_str().unwrap().to_owned(),
            };
            env.push((name, value));
        }
        let ports = container["ports"].as_array().into_iter().flatten().map(|port| {
            let number = u16::try_from(port["containerPort"].as_u64().unwrap()).unwrap();
            (port["name"].as_str().unwrap().to_owned(), number)
        });
        let volumes = spec["volumes"].as_array().unwrap();
        let mounts = container["volumeMounts"].as_array().unwrap().iter().map(|mount| {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]);
            let source = match volume {
                None => Source::Claim,
                Some(volume) if !volume["emptyDir"].is_null() => Source::Empty,
                Some(volume) => match volume["secret"]["secretName"].as_str() {
                    Some(secret) => Source::Secret(secret.to_owned()),
                    None => Source::Files(
                        manifests.config_map(volume["configMap"]["name"].as_str().unwrap()),
                    ),
                },
            };
            Mount { path: mount["mountPath"].as_str().unwrap().to_owned(), source }
        });
        let pre_stop = &container["lifecycle"]["preStop"]["exec"]["command"];
        Self {
            image: image.rsplit_once(':').unwrap().0.to_owned(),
            command: words(&container["command"]),
            args: words(&container["args"]),
            env,
            ports: ports.collect(),
            // The default where none is given.
            grace: spec["terminationGracePeriodSeconds"]
                .as_u64()
                .map_or(Duration::from_secs(30), Duration::from_secs),
            pre_stop: (!pre_stop.is_null()).then(|| words(pre_stop)),
            startup: probe(&container["startupProbe"], seconds),
            readiness: probe(&container["readinessProbe"], seconds),
            liveness: probe(&container["livenessProbe"], seconds),
            mounts: mounts.collect(),
        }
    }
}

fn probe(probe: &Value, seconds: impl Fn(&Value) -> Duration) -> Option<Probe> {
    if probe.is_null() {
        return None;
    }
    Some(Probe {
        path: probe["httpGet"]["path"].as_str().unwrap().to_owned(),
        port: probe["httpGet"]["port"].as_str().unwrap().to_owned(),
        period: seconds(&probe["periodSeconds"]),
        timeout: seconds(&probe["timeoutSeconds"]),
        failures: u32::try_from(probe["failureThreshold"].as_u64().unwrap()).unwrap(),
    })
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|word| word.as_str().unwrap().to_owned()).collect()
}
