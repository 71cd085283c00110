//! Whose containers, networks and volumes are whose: a label names the process that made them, so that the next
//! run removes what a killed one left, and nobody else's.

use super::engine::{Engine, Kind, told};
use bollard::errors::Error;
use bollard::models::ContainerSummary;
use bollard::query_parameters::{
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// On everything that we make.
const LABEL: &str = "slipway.owner";

/// A process, told apart from a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    machine: String,
    boot: String,
    /// Numbers of processes mean something only inside of one.
    namespace: String,
    pid: u32,
    started: u64,
}

impl Owner {
    fn this() -> Owner {
        Owner::process(std::process::id())
    }

    fn process(pid: u32) -> Owner {
        Owner { pid, started: started(pid).unwrap_or_default(), ..Owner::machine() }
    }

    fn machine() -> Owner {
        let read =
            |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let machine = Some(read("/etc/machine-id")).filter(|id| !id.is_empty());
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Owner {
            machine: machine.unwrap_or_else(|| read("/proc/sys/kernel/hostname")),
            boot: read("/proc/sys/kernel/random/boot_id"),
            namespace: namespace.to_string_lossy().into_owned(),
            pid: 0,
            started: 0,
        }
    }

    fn label(&self) -> String {
        let Owner { machine, boot, namespace, pid, started } = self;
        format!("{machine}/{boot}/{namespace}/{pid}/{started}")
    }

    fn parse(label: &str) -> Option<Owner> {
        let parts: Vec<&str> = label.split('/').collect();
        let [machine, boot, namespace, pid, started] = parts.as_slice() else { return None };
        Some(Owner {
            machine: (*machine).to_owned(),
            boot: (*boot).to_owned(),
            namespace: (*namespace).to_owned(),
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
        })
    }

    /// Is it certain that this process has ended? `here` is the machine that asks.
    fn is_dead(&self, here: &Owner) -> bool {
        if self.machine != here.machine {
            return false;
        }
        if self.boot != here.boot {
            return true;
        }
        self.namespace == here.namespace && started(self.pid) != Some(self.started)
    }
}

/// When a process of this machine was started, in ticks since boot; none: it has ended.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name may hold blanks and brackets
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    // one that nobody has waited for is there, and has ended all the same
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The label of what this process makes.
pub(super) fn labels() -> HashMap<String, String> {
    HashMap::from([(LABEL.to_owned(), Owner::this().label())])
}

/// The label of what a process of this machine makes.
#[doc(hidden)]
pub fn label_of(pid: u32) -> String {
    Owner::process(pid).label()
}

/// A name that nothing else has: `slipway-PID-STARTED-NUMBER`.
pub(super) fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let owner = Owner::this();
    format!("slipway-{}-{}-{}", owner.pid, owner.started, NEXT.fetch_add(1, Ordering::Relaxed))
}

fn is_left_over(labels: Option<&HashMap<String, String>>, here: &Owner) -> bool {
    labels.and_then(|labels| Owner::parse(labels.get(LABEL)?)).is_some_and(|owner| owner.is_dead(here))
}

/// How often, and how long after one another, it is asked for containers of which one is in a passing state.
const MOST_TRIES: u32 = 100;
const PASSING: Duration = Duration::from_millis(100);

/// Removes containers, networks and volumes that runs of this machine left which were killed; how many.
///
/// # Errors
/// The engine does not answer, or something can't be removed.
pub async fn sweep(engine: &Engine) -> Result<usize, String> {
    let here = Owner::machine();
    let ours = HashMap::from([("label", vec![LABEL])]);
    let mut removed = 0;
    for container in
        containers(engine, &ours).await?.iter().filter(|found| is_left_over(found.labels.as_ref(), &here))
    {
        remove_container(engine, container.id.as_deref().unwrap_or_default()).await?;
        removed += 1;
    }
    let options = ListNetworksOptionsBuilder::new().filters(&ours).build();
    let networks = engine.api.list_networks(Some(options)).await.map_err(|error| told(&error))?;
    for network in networks.iter().filter(|found| is_left_over(found.labels.as_ref(), &here)) {
        remove_network(engine, network.name.as_deref().unwrap_or_default()).await?;
        removed += 1;
    }
    let options = ListVolumesOptionsBuilder::new().filters(&ours).build();
    let volumes = engine.api.list_volumes(Some(options)).await.map_err(|error| told(&error))?;
    for volume in volumes.volumes.iter().flatten().filter(|found| is_left_over(Some(&found.labels), &here)) {
        remove_volume(engine, &volume.name).await?;
        removed += 1;
    }
    Ok(removed)
}

/// podman has states that bollard does not know. They pass: a container that has ended is about to be cleaned up.
async fn containers(
    engine: &Engine,
    ours: &HashMap<&str, Vec<&str>>,
) -> Result<Vec<ContainerSummary>, String> {
    let mut tries = 0;
    loop {
        let options = ListContainersOptionsBuilder::new().all(true).filters(ours).build();
        match engine.api.list_containers(Some(options)).await {
            Err(Error::JsonDataError { message, .. })
                if tries < MOST_TRIES && message.contains("unknown variant") =>
            {
                tries += 1;
                tokio::time::sleep(PASSING).await;
            }
            listed => return listed.map_err(|error| told(&error)),
        }
    }
}

/// Two sweeps at once, or an engine that removes by itself: gone is what was wanted.
fn unless_gone(result: Result<(), bollard::errors::Error>, what: &str) -> Result<(), String> {
    use bollard::errors::Error::DockerResponseServerError;
    match result {
        Ok(()) => Ok(()),
        Err(DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        Err(DockerResponseServerError { status_code: 409, message })
            if message.contains("already in progress") =>
        {
            Ok(())
        }
        Err(error) => Err(format!("removing {what}: {}", told(&error))),
    }
}

/// Kills it first when it runs; its anonymous volumes go with it.
pub(super) async fn remove_container(engine: &Engine, id: &str) -> Result<(), String> {
    if engine.kind == Kind::Podman {
        // to it, force means ten seconds for SIGTERM first; what has ended already can't be killed
        let kill = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        let _ended = engine.api.kill_container(id, Some(kill)).await;
    }
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    unless_gone(engine.api.remove_container(id, Some(options)).await, &format!("container `{id}`"))
}

pub(super) async fn remove_network(engine: &Engine, name: &str) -> Result<(), String> {
    unless_gone(engine.api.remove_network(name).await, &format!("network `{name}`"))
}

pub(super) async fn remove_volume(engine: &Engine, name: &str) -> Result<(), String> {
    let options = RemoveVolumeOptionsBuilder::new().force(true).build();
    unless_gone(engine.api.remove_volume(name, Some(options)).await, &format!("volume `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_certainly_has_no_owner_any_more_is_left_over() {
        let here = Owner::machine();
        type Change = fn(&mut Owner);
        let this = Owner::this();
        let with = |change: Change| {
            let mut owner = this.clone();
            change(&mut owner);
            Owner::parse(&owner.label()).unwrap()
        };
        let table: [(Change, bool); 7] = [
            (|_| {}, false),
            (|owner| owner.started += 1, true),
            (|owner| owner.pid = u32::MAX, true),
            (|owner| owner.boot = "another".into(), true),
            (|owner| owner.machine = "another".into(), false),
            (|owner| (owner.namespace, owner.started) = ("pid:[1]".into(), 1), false),
            (|owner| (owner.namespace, owner.boot) = ("pid:[1]".into(), "x".into()), true),
        ];
        for (index, (change, dead)) in table.into_iter().enumerate() {
            assert_eq!(with(change).is_dead(&here), dead, "{index}");
        }
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let zombie = loop {
            let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
            if stat.contains(") Z") {
                break Owner { started: started(this.pid).unwrap(), pid: child.id(), ..this.clone() };
            }
            std::thread::yield_now();
        };
        assert!(zombie.is_dead(&here), "nobody has waited for it, but it has ended");
        child.wait().unwrap();
        for label in ["", "a/b/c", "a/b/c/x/1", "a/b/c/1/2/3"] {
            assert_eq!(Owner::parse(label), None, "{label}");
        }
    }
}
