//! Ctrl-C.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// A message for each SIGINT or SIGTERM that this process gets from now on; neither ends it any more.
///
/// # Errors
/// The handlers can't be installed.
pub fn interrupts() -> std::io::Result<mpsc::UnboundedReceiver<()>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move { while signals.recv().await.is_some() && sender.send(()).is_ok() {} });
    }
    Ok(receiver)
}
