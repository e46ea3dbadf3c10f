//! A director without a host: a file to begin with, operations, reloads, and what it then saves.

use lvs_tund::config::diff::{self, Difference};
use lvs_tund::config::plan::{self, DirectorPlan};
use lvs_tund::config::{Source, consistency, write};
use lvs_tund::control::Code;
use lvs_tund::control::model::Operation;
use lvs_tund::control::operation::{Running, apply};
use lvs_tund::director::cluster::{RealServerConfig, VirtualServiceConfig};
use lvs_tund::time::Moment;

pub const NOW: Moment = Moment::from_secs(7);

/// The content of a file.
pub fn read(text: &str) -> DirectorPlan {
    plan::director(&Source { name: "director.toml", text }, None)
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Why a file is not applied.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    NeedsRestart(Vec<&'static str>),
    Inconsistent,
}

pub struct Director {
    /// The file as it was applied last.
    base: DirectorPlan,
    running: Running,
}

impl Director {
    pub fn start(text: &str) -> Director {
        let base = read(text);
        let hash_key = base.hash_key.unwrap_or([7; 16]);
        let (cluster, defaults) = (base.cluster.clone().into(), base.defaults.clone());
        Director { base, running: Running { cluster, defaults, hash_key, ..Running::default() } }
    }

    /// Operations as JSON, each a change of its own.
    pub fn told(&mut self, operations: &[&str]) {
        for json in operations {
            self.try_told(json).unwrap_or_else(|code| panic!("{json}: {code:?}"));
        }
    }

    pub fn try_told(&mut self, json: &str) -> Result<(), Code> {
        let operation: Operation =
            serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        self.running = apply(&self.running, &[operation], NOW).map_err(|error| error.code)?.running;
        Ok(())
    }

    pub fn carry_out(&mut self, operations: &[Operation]) {
        for operation in operations {
            if let Ok(applied) = apply(&self.running, std::slice::from_ref(operation), NOW) {
                self.running = applied.running;
            }
        }
    }

    /// The file has `text` now.
    pub fn reload(&mut self, text: &str) -> Result<Vec<Difference>, Refusal> {
        let (base, file, before) = (&self.base, read(text), &self.running);
        let keys = diff::needs_restart(base, &file);
        if !keys.is_empty() {
            return Err(Refusal::NeedsRestart(keys));
        }
        // The control task applies the hash key.
        let hash_key = file.hash_key.filter(|_| file.hash_key != base.hash_key).unwrap_or(before.hash_key);
        let cluster = diff::merge(&base.cluster, &file.cluster, &before.cluster);
        let defaults = diff::merge_defaults(&base.defaults, &file.defaults, &before.defaults);
        let states = before.states.carried_over(&before.cluster, &cluster, &file.cluster);
        consistency::check(&cluster.virtual_services).map_err(|_| Refusal::Inconsistent)?;
        let running = Running { cluster: cluster.into(), defaults, hash_key, states, ..Running::default() };
        let differences = differences(
            &self.plan(),
            &DirectorPlan {
                cluster: (*running.cluster).clone(),
                defaults: running.defaults.clone(),
                ..file.clone()
            },
        );
        (self.base, self.running) = (file, running);
        Ok(differences)
    }

    /// The running configuration; it survives being saved.
    pub fn in_force(&self) -> DirectorPlan {
        let plan = self.plan();
        let text = write::director(&plan);
        assert_eq!(read(&text), plan, "saved and read again:\n{text}");
        plan
    }

    /// "web server2 5": service, real server and the weight that schedulers see.
    pub fn weights(&self) -> Vec<String> {
        let in_force = self.running.in_force();
        let of = |service: &VirtualServiceConfig, server: &RealServerConfig| {
            let effective = in_force.weights.get(&service.name).and_then(|weights| weights.get(&server.rip));
            let weight = effective
                .copied()
                .unwrap_or(Some(server.weight.into()))
                .expect("a real server that is there")
                .weight;
            format!("{} {} {weight}", service.name, server.name)
        };
        let services = &in_force.config.virtual_services;
        services.iter().flat_map(|service| service.real_servers.iter().map(|s| of(service, s))).collect()
    }

    /// "web 10.0.0.1 5": service, RIP and the weight that an undrain gives back.
    pub fn drains(&self) -> Vec<String> {
        let weight = |service: &str, rip| {
            let service = self.running.cluster.virtual_services.iter().find(|s| s.name == service)?;
            service.real_servers.iter().find(|server| server.rip == rip).map(|server| server.weight)
        };
        let states = self.running.states.iter();
        states
            .map(|(name, rip, _)| format!("{name} {rip} {}", weight(name, rip).expect("configured")))
            .collect()
    }

    fn plan(&self) -> DirectorPlan {
        let mut cluster = (*self.running.cluster).clone();
        // In a file, the key is there once.
        cluster.virtual_services.iter_mut().for_each(|s| s.scheduler_options.hash_key = [0; 16]);
        let hash_key = self.base.hash_key.and(Some(self.running.hash_key));
        DirectorPlan { cluster, defaults: self.running.defaults.clone(), hash_key, ..self.base.clone() }
    }
}

/// The report to an operator.
pub fn differences(old: &DirectorPlan, new: &DirectorPlan) -> Vec<Difference> {
    let mut found = diff::defaults(&old.defaults, &new.defaults);
    found.extend(diff::clusters(&old.cluster, &new.cluster));
    found
}
