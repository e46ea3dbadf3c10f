//! Another configuration as a whole: the file read again, or a text from the API.

use std::sync::Arc;

use super::{Control, Next, Reread};
use crate::config::diff;
use crate::config::plan::DirectorPlan;
use crate::config::{Source, consistency};
use crate::control::model::{Changed, Configuration, EventKind, Reload};
use crate::control::operation::{Running, Zeroed};
use crate::control::state::{AdminStates, FileNames};
use crate::control::{Code, ControlError, standing};
use crate::director::cluster::ClusterConfig;

impl Control {
    pub(super) async fn configure(
        &mut self,
        configuration: Configuration,
        by: String,
    ) -> Result<Changed, ControlError> {
        self.check_generation(configuration.if_generation)?;
        let plan = self.read("request".to_owned(), configuration.toml).await?;
        self.check_restart(&plan)?;
        let hash_key = plan.hash_key.unwrap_or(self.running.hash_key);
        let next = Running {
            cluster: Arc::new(plan.cluster.clone()),
            defaults: plan.defaults.clone(),
            hash_key,
            states: AdminStates::default(),
            file_names: Arc::default(),
            health: Arc::default(),
        };
        let running = self.carried_over(next, &plan.cluster)?;
        let (zeroed, dry_run) = (Zeroed::Nothing, configuration.dry_run);
        let next = Next { running, zeroed, by, what: EventKind::Replaced, dry_run };
        let changed = self.advance(next).await?;
        if !dry_run {
            self.base.hash_key = plan.hash_key.or(self.base.hash_key);
            self.warnings.follow(plan);
            self.publish();
        }
        Ok(changed)
    }

    /// Applies the current file. A file that cannot be applied changes nothing, and the reason is logged.
    pub(super) async fn reload(
        &mut self,
        reload: Reload,
        by: String,
        text: Reread,
    ) -> Result<Changed, ControlError> {
        let outcome = self.reload_unlogged(&reload, &by, text).await;
        if let (Err(error), false) = (&outcome, reload.dry_run) {
            tracing::warn!(
                by,
                generation = self.generation,
                kind = "reload_refused",
                "director: reload refused: {error}"
            );
            self.tell(&by, EventKind::ReloadRefused, error.to_string(), Vec::new());
        }
        if outcome.as_ref().is_ok_and(|changed| changed.differences.is_empty() && !reload.dry_run) {
            tracing::info!(
                by,
                generation = self.generation,
                kind = "reloaded",
                "director: reloaded: the file has not changed"
            );
        }
        outcome
    }

    async fn reload_unlogged(
        &mut self,
        reload: &Reload,
        by: &str,
        text: Reread,
    ) -> Result<Changed, ControlError> {
        self.check_generation(reload.if_generation)?;
        let (name, text) = match text {
            Reread::NoFile => {
                let message = "the director was started without --config, so there is no file to reload";
                return Err(ControlError::new(Code::NoFile, message));
            }
            Reread::File { name, text } => (name, text),
        };
        let text = text.map_err(|error| {
            ControlError::new(Code::BadConfiguration, format!("{name}: {error}; nothing was changed"))
        })?;
        let plan = self.read(name, text).await?;
        self.check_restart(&plan)?;
        let (base, file) = (&self.base, &plan);
        let hash_key = match file.hash_key.filter(|_| file.hash_key != base.hash_key) {
            Some(key) => key,
            None => self.running.hash_key,
        };
        let next = Running {
            cluster: diff::merge(&base.cluster, &file.cluster, &self.running.cluster).into(),
            defaults: diff::merge_defaults(&base.defaults, &file.defaults, &self.running.defaults),
            hash_key,
            states: AdminStates::default(),
            file_names: Arc::default(),
            health: Arc::default(),
        };
        let running = self.carried_over(next, &file.cluster)?;
        let next = Next {
            running,
            zeroed: Zeroed::Nothing,
            by: by.to_owned(),
            what: EventKind::Reloaded,
            dry_run: reload.dry_run,
        };
        let changed = self.advance(next).await?;
        if !reload.dry_run {
            self.base = plan;
            self.warn_of_file();
            self.publish();
        }
        Ok(changed)
    }

    /// Reading a thousand services takes milliseconds, so it does not run on a thread that answers others.
    async fn read(&self, name: String, text: String) -> Result<DirectorPlan, ControlError> {
        // Editors and shells briefly leave an empty file; it does not mean that nothing is to be served.
        let says_something = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        if !text.lines().any(says_something) {
            let message = format!("{name}: the configuration is empty; nothing was changed");
            return Err(ControlError::new(Code::BadConfiguration, message));
        }
        let read = self.file.read.clone();
        let plan = tokio::task::spawn_blocking(move || read(&Source { name: &name, text: &text })).await;
        let plan = plan.map_err(|error| ControlError::new(Code::Internal, error.to_string()))?;
        plan.map_err(|error| ControlError::new(Code::BadConfiguration, error.to_string()))
    }

    fn check_restart(&self, plan: &DirectorPlan) -> Result<(), ControlError> {
        let keys = diff::needs_restart(&self.base, plan);
        if keys.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{}: cannot change without a restart of the director; nothing was changed",
            keys.join(", ")
        );
        Err(ControlError::new(Code::NeedsRestart, message))
    }

    /// States, health and the hash key are no part of a file's services; the rest is checked as a whole.
    fn carried_over(&self, next: Running, file: &ClusterConfig) -> Result<Running, ControlError> {
        let mut cluster = Arc::unwrap_or_clone(next.cluster);
        for service in &mut cluster.virtual_services {
            service.scheduler_options.hash_key = next.hash_key;
        }
        let states = self.running.states.carried_over(&self.running.cluster, &cluster, file);
        let health = standing::carried_over(&self.running.health, &self.running.cluster, &cluster).into();
        consistency::check(&cluster.virtual_services).map_err(|found| {
            let message = format!("{}; a service added by command is in the way", found.message);
            ControlError::new(Code::Invalid, message)
        })?;
        let file_names = FileNames::new(file).into();
        Ok(Running { cluster: cluster.into(), states, file_names, health, ..next })
    }
}
