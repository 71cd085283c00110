//! What people are told: facts, which templates turn into text.

use super::notifier::Occasion;
use serde::{Deserialize, Serialize};

/// One thing to tell. Serialized, it is a webhook's body and what templates see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Version of this document's form.
    pub format: u32,
    /// What it is about.
    pub subject: Subject,
    /// What happened; none for a message.
    pub occasion: Option<Occasion>,
    /// One line.
    pub title: String,
    /// More: an error and what to do about it.
    pub text: Option<String>,
    /// `group/project`.
    pub project: Option<String>,
    /// Branch or tag.
    pub reference: Option<String>,
    /// Short SHA.
    pub commit: Option<String>,
    /// Number of the run on this machine.
    pub run: Option<u64>,
    /// Names.
    pub failed_jobs: Vec<String>,
    /// As `dev`.
    pub environment: Option<String>,
    /// Its name.
    pub release: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// How it was deployed, in a sentence.
    pub strategy: Option<String>,
    /// Who did it.
    pub by: Option<String>,
    /// Page of the job.
    pub link: Option<String>,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A run of the pipeline.
    Pipeline,
    /// A deployment.
    Deployment,
    /// What somebody says with `ci notify`.
    Message,
}

impl Event {
    fn new(subject: Subject, occasion: Option<Occasion>, title: String) -> Event {
        Event {
            format: 1,
            subject,
            occasion,
            title: line(&title),
            text: None,
            project: None,
            reference: None,
            commit: None,
            run: None,
            failed_jobs: Vec::new(),
            environment: None,
            release: None,
            version: None,
            strategy: None,
            by: None,
            link: None,
        }
    }

    /// A person's sentence.
    pub fn message(text: &str) -> Event {
        Event::new(Subject::Message, None, text.to_owned())
    }

    /// Of the pipeline of `project`.
    pub fn pipeline(occasion: Occasion, project: &str) -> Event {
        let what = match occasion {
            Occasion::Started => "started",
            Occasion::Succeeded => "succeeded",
            Occasion::Fixed => "succeeded again",
            Occasion::Failed | Occasion::RolledBack => "failed",
            Occasion::ApprovalNeeded => "waits for approval",
        };
        let title = format!("Pipeline of {project} {what}");
        Event { project: Some(project.to_owned()), ..Event::new(Subject::Pipeline, Some(occasion), title) }
    }

    /// Of the deployment of a release to an environment.
    pub fn deployment(occasion: Occasion, release: &str, version: &str, environment: &str) -> Event {
        let what = match occasion {
            Occasion::Started => "started",
            Occasion::Succeeded | Occasion::Fixed => "succeeded",
            Occasion::Failed => "failed",
            Occasion::RolledBack => "failed and was rolled back",
            Occasion::ApprovalNeeded => "waits for approval",
        };
        // neither is known when the project itself could not be read
        let named = [release, version].into_iter().filter(|word| !word.is_empty());
        let subject = named.map(|word| format!(" {word}")).collect::<String>();
        let of = if subject.is_empty() { "" } else { " of" };
        let title = format!("Deployment{of}{subject} to {environment} {what}");
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Event {
            environment: some(environment),
            release: some(release),
            version: some(version),
            ..Event::new(Subject::Deployment, Some(occasion), title)
        }
    }

    /// With where it comes from, as a CI job's variables say it; what is known already stays.
    #[must_use]
    pub fn placed(mut self, variable: impl Fn(&str) -> Option<String>) -> Event {
        let set = |slot: &mut Option<String>, names: &[&str]| {
            let found = || names.iter().find_map(|name| variable(name).filter(|v| !v.is_empty()));
            *slot = slot.take().or_else(found);
        };
        set(&mut self.project, &["CI_PROJECT_PATH"]);
        set(&mut self.reference, &["CI_COMMIT_REF_NAME"]);
        set(&mut self.commit, &["CI_COMMIT_SHORT_SHA"]);
        set(&mut self.by, &["GITLAB_USER_LOGIN", "USER"]);
        set(&mut self.link, &["CI_JOB_URL"]);
        self
    }

    /// Names and values for people, in the order to show them; none for a message, which says it all itself.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        if self.subject == Subject::Message {
            return Vec::new();
        }
        let jobs = Some(self.failed_jobs.join(", ")).filter(|jobs| !jobs.is_empty());
        let project = self.project.clone().filter(|_| self.subject != Subject::Pipeline);
        let all = [
            ("project", project),
            ("ref", self.reference.clone()),
            ("commit", self.commit.clone()),
            ("run", self.run.map(|run| run.to_string())),
            ("failed jobs", jobs),
            ("how", self.strategy.clone()),
            ("by", self.by.clone()),
            ("link", self.link.clone()),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, line(&value?)))).collect()
    }
}

/// One line, without what terminals or mail headers act on.
fn line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_say_what_happened_in_one_line() {
        let table = [
            (Event::pipeline(Occasion::Failed, "g/app").title, "Pipeline of g/app failed"),
            (Event::pipeline(Occasion::Fixed, "g/app").title, "Pipeline of g/app succeeded again"),
            (
                Event::deployment(Occasion::RolledBack, "urf", "0.2.0", "dev").title,
                "Deployment of urf 0.2.0 to dev failed and was rolled back",
            ),
            (Event::deployment(Occasion::Failed, "", "", "dev").title, "Deployment to dev failed"),
            (Event::message("two\nlines\x1b[31m").title, "two lines [31m"),
        ];
        for (title, expected) in table {
            assert_eq!(title, expected);
        }
    }

    #[test]
    fn a_job_s_variables_say_the_place() {
        let variables = |name: &str| match name {
            "CI_PROJECT_PATH" => Some("other".to_owned()),
            "CI_COMMIT_REF_NAME" => Some("main".to_owned()),
            "GITLAB_USER_LOGIN" => Some(String::new()),
            "USER" => Some("ann".to_owned()),
            _ => None,
        };
        let event = Event::pipeline(Occasion::Failed, "g/app").placed(variables);
        assert_eq!(event.project.as_deref(), Some("g/app"));
        assert_eq!(event.facts(), [("ref", "main".to_owned()), ("by", "ann".to_owned())]);
    }
}
