//! Why there is no image.

use std::io;

use crate::sandbox;

/// What went wrong, and with what. Never holds credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Not the name of an image.
    #[error("`{name}` is not the name of an image: {reason}")]
    Name {
        /// As it was written.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Pull policy `never`, and it isn't here.
    #[error("image `{name}` is not on this machine; `ci images pull {name}` fetches it")]
    NotPresent {
        /// As it was asked for.
        name: String,
    },
    /// The registry has no such repository or tag, or shows it only to others.
    #[error("the registry `{registry}` has no image `{name}`{}", if *.anonymous {
        ", or shows it only to users who log in (`docker login`, or the variable `DOCKER_AUTH_CONFIG`)" } else { "" })]
    NotFound {
        /// As it was asked for.
        name: String,
        /// Host and port.
        registry: String,
        /// Whether we had no credentials.
        anonymous: bool,
    },
    /// Credentials are missing or wrong.
    #[error("the registry `{registry}` refuses access to `{name}`: {}", if *.anonymous {
        "log in with `docker login`, or set the variable `DOCKER_AUTH_CONFIG`" } else { "the credentials are not accepted" })]
    Denied {
        /// As it was asked for.
        name: String,
        /// Host and port.
        registry: String,
        /// Whether we had no credentials.
        anonymous: bool,
    },
    /// Nobody answers at all.
    #[error("the registry `{registry}` can't be reached: {reason}")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// The system's words.
        reason: String,
    },
    /// Too many requests, for longer than we wait.
    #[error(
        "the registry `{registry}` allows no more requests for now (429): wait, or log in with `docker login`"
    )]
    RateLimited {
        /// Host and port.
        registry: String,
    },
    /// The registry answers, but not as it should, also when asked again.
    #[error("fetching {what} from the registry `{registry}`: {reason}")]
    Transfer {
        /// A manifest or a layer.
        what: String,
        /// Host and port.
        registry: String,
        /// What was wrong.
        reason: String,
    },
    /// Content that is not what its digest says.
    #[error("{what} is damaged: its digest is `{actual}`, not `{expected}`")]
    Damaged {
        /// A manifest or a layer.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// An index has nothing for this platform.
    #[error("image `{name}` is not made for `{platform}`, but for {available}")]
    Platform {
        /// As it was asked for.
        name: String,
        /// As it was asked for, else this machine's.
        platform: String,
        /// What there is.
        available: String,
    },
    /// A document that we can't use.
    #[error("image `{name}` can't be used: {reason}")]
    Unsupported {
        /// As it was asked for.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer could not be unpacked.
    #[error("layer `{digest}`: {source}")]
    Layer {
        /// Digest of the layer.
        digest: String,
        /// The unpacking process's words.
        source: sandbox::Error,
    },
    /// No policy gave an image.
    #[error("failed to pull image `{name}` with specified policies [{policies}]: {last}")]
    Policies {
        /// As it was asked for.
        name: String,
        /// In the order in which they were tried.
        policies: String,
        /// Why the last failed.
        last: Box<ImageError>,
    },
    /// Something can't be removed because others work with the images.
    #[error("images can't be removed while another `ci` works with them; try again when it has ended")]
    Busy,
    /// The disk, mostly.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done to what.
        doing: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The process that unpacks could not be started, or could not move or delete something.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
}

impl ImageError {
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
