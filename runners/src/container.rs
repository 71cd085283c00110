//! How a job's shell is started in an image: what GitLab's docker executor makes of `ENTRYPOINT`, `USER`, `WORKDIR`
//! and `ENV`, and of `image:entrypoint` and `image:docker:user`.

use crate::executor::ExecutorError;
use crate::image;
use crate::running::system;
use crate::sandbox::{Command, Error, Spec};
use crate::script::{DETECT_SHELL, for_a_person};
use pipelines::plan;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Docker's, of images that say none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What starts before a job's shell, and with what.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// None: the host's files.
    image: Option<String>,
    entrypoint: Vec<String>,
    environment: Vec<(String, String)>,
    directory: PathBuf,
}

impl Container {
    /// Of the host's own files.
    pub(crate) fn host(directory: &Path) -> Container {
        Container {
            image: None,
            entrypoint: Vec::new(),
            environment: Spec::host_env(),
            directory: directory.to_owned(),
        }
    }

    /// Of an image, as the job asks for it.
    pub(crate) fn image(image: &image::Image, asked: &plan::Image, hostname: &str) -> Container {
        let mut environment =
            vec![("PATH".to_owned(), PATH.to_owned()), ("HOSTNAME".to_owned(), hostname.to_owned())];
        environment.extend(image.config.environment.iter().cloned());
        let entrypoint = match &asked.entrypoint {
            // an empty list is the same as none
            Some(own) if !own.is_empty() => own.clone(),
            _ => image.config.entrypoint.clone(),
        };
        let directory = match image.config.directory.as_os_str() {
            empty if empty.is_empty() => PathBuf::from("/"),
            _ => Path::new("/").join(&image.config.directory),
        };
        Container {
            image: Some(image.reference.clone()),
            // `[""]` takes the image's entrypoint away
            entrypoint: if entrypoint == [""] { Vec::new() } else { entrypoint },
            environment,
            directory,
        }
    }

    /// The shell that reads a script, behind the entrypoint. The job's variables win over the image's.
    pub(crate) fn shell(&self, variables: Vec<(String, String)>) -> Command {
        let shell = ["sh", "-c", DETECT_SHELL].map(str::to_owned);
        let environment: BTreeMap<String, String> =
            self.environment.iter().cloned().chain(variables).collect();
        Command {
            argv: self.entrypoint.iter().cloned().chain(shell).collect(),
            env: environment.into_iter().collect(),
            cwd: self.directory.clone(),
        }
    }

    /// A service's program with its variables: `command` (else the image's `CMD`, unless the service has an entrypoint
    /// of its own) behind the entrypoint.
    pub(crate) fn service(&self, service: &plan::Service, default: &[String]) -> Command {
        let own_entrypoint = service.image.entrypoint.as_ref().is_some_and(|own| !own.is_empty());
        let arguments = match &service.command {
            Some(command) if !command.is_empty() => command.as_slice(),
            _ if own_entrypoint => &[],
            _ => default,
        };
        let entrypoint = if self.image.is_some() {
            self.entrypoint.as_slice()
        } else {
            service.image.entrypoint.as_deref().unwrap_or_default()
        };
        let variables = service.variables.iter().map(|(key, value)| (key.clone(), value.clone()));
        let environment: BTreeMap<String, String> =
            self.environment.iter().cloned().chain(variables).collect();
        Command {
            argv: entrypoint.iter().chain(arguments).cloned().collect(),
            env: environment.into_iter().collect(),
            cwd: self.directory.clone(),
        }
    }

    /// A shell for a person, in the project directory.
    pub(crate) fn terminal(&self, variables: Vec<(String, String)>) -> Command {
        let argv = vec!["sh".to_owned(), "-c".to_owned(), for_a_person("container")];
        Command { argv, ..self.shell(variables) }
    }

    /// Says what a program that can't be executed means for the image.
    pub(crate) fn explain(&self, error: Error) -> ExecutorError {
        let (Some(image), Error::Setup(failure)) = (&self.image, &error) else { return system(error) };
        let Some(program) = failure.doing.strip_prefix("executing `").and_then(|rest| rest.strip_suffix('`'))
        else {
            return system(error);
        };
        let cause = &failure.cause;
        let text = match self.entrypoint.first() {
            Some(_) => format!(
                "the entrypoint `{program}` of image `{image}` can't be executed: {cause}; \
                 `image: {{entrypoint: [\"\"]}}` leaves it out"
            ),
            None => format!(
                "image `{image}` has no shell (`sh` can't be executed: {cause}): jobs need one; many such images \
                 have a variant with a shell, tagged `debug`"
            ),
        };
        ExecutorError::system("starting a shell", text)
    }
}

/// Whom the job runs as: `image:docker:user`, else the image's `USER`.
pub(crate) fn user(image: &image::Image, asked: &plan::Image) -> String {
    let own = asked.docker.as_ref().and_then(|docker| docker.get("user")).and_then(|user| user.as_str());
    own.filter(|user| !user.is_empty()).unwrap_or(&image.config.user).to_owned()
}

/// Is that root for certain? Names are looked up in the image, which may call root otherwise.
pub(crate) fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "root" | "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> image::Image {
        let config = image::Config {
            environment: vec![("PATH".into(), "/opt/bin".into()), ("LEVEL".into(), "image".into())],
            entrypoint: vec!["/entry.sh".into(), "--flag".into()],
            command: vec!["serve".into()],
            user: "app".into(),
            directory: "/srv".into(),
            ..image::Config::default()
        };
        image::Image { reference: "tool:1".into(), config, ..image::Image::default() }
    }

    fn asked(entrypoint: Option<&[&str]>) -> plan::Image {
        let entrypoint = entrypoint.map(|list| list.iter().map(|text| (*text).to_owned()).collect());
        plan::Image { name: "tool:1".into(), entrypoint, ..plan::Image::default() }
    }

    #[test]
    fn the_shell_runs_behind_the_entrypoint() {
        let table: [(Option<&[&str]>, &[&str]); 4] = [
            (None, &["/entry.sh", "--flag", "sh", "-c"]),
            (Some(&[]), &["/entry.sh", "--flag", "sh", "-c"]),
            (Some(&[""]), &["sh", "-c"]),
            (Some(&["/bin/sh", "-x"]), &["/bin/sh", "-x", "sh", "-c"]),
        ];
        for (entrypoint, expected) in table {
            let command = Container::image(&image(), &asked(entrypoint), "h").shell(Vec::new());
            assert_eq!(command.argv[..command.argv.len() - 1], *expected, "{entrypoint:?}");
            assert_eq!(command.cwd, Path::new("/srv"));
        }
    }

    #[test]
    fn services_run_their_command_behind_the_entrypoint() {
        type List<'a> = Option<&'a [&'a str]>;
        let table: [(List<'_>, List<'_>, &[&str]); 5] = [
            (None, None, &["/entry.sh", "--flag", "serve"]),
            (None, Some(&["other", "x"]), &["/entry.sh", "--flag", "other", "x"]),
            (None, Some(&[]), &["/entry.sh", "--flag", "serve"]),
            (Some(&["/own"]), None, &["/own"]),
            (Some(&["/own"]), Some(&["x"]), &["/own", "x"]),
        ];
        for (entrypoint, command, expected) in table {
            let service = plan::Service {
                image: asked(entrypoint),
                alias: None,
                command: command.map(|list| list.iter().map(|text| (*text).to_owned()).collect()),
                variables: [("LEVEL".to_owned(), "service".to_owned())].into_iter().collect(),
            };
            let image = image();
            let made = Container::image(&image, &service.image, "h").service(&service, &image.config.command);
            assert_eq!(made.argv, expected, "{entrypoint:?} {command:?}");
            assert!(made.env.contains(&("LEVEL".to_owned(), "service".to_owned())));
        }
    }

    #[test]
    fn variables_of_the_job_win_over_the_images() {
        let job = vec![("LEVEL".to_owned(), "job".to_owned())];
        let command = Container::image(&image(), &asked(None), "h").shell(job);
        let expected = [("HOSTNAME", "h"), ("LEVEL", "job"), ("PATH", "/opt/bin")];
        assert_eq!(command.env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let bare = Container::image(&image::Image::default(), &asked(None), "h").shell(Vec::new());
        assert!(bare.env.contains(&("PATH".to_owned(), PATH.to_owned())));
        assert_eq!(bare.cwd, Path::new("/"));
    }

    #[test]
    fn the_job_may_choose_another_user() {
        let mut asked = asked(None);
        assert_eq!(user(&image(), &asked), "app");
        asked.docker = Some(serde_json::json!({"user": "1000:1000"}));
        assert_eq!(user(&image(), &asked), "1000:1000");
        let table = [("", true), ("root", true), ("0:5", true), ("app", false), ("1000", false)];
        for (text, expected) in table {
            assert_eq!(is_root(text), expected, "{text}");
        }
    }
}
