//! What the engine does by itself.

use super::{bridges, invariants, leases, timers, waits};
use crate::server::db::now;
use crate::server::{Answer, App};
use std::time::Duration;
use tokio::sync::Notify;

/// The passes of this module: timers, leases, trigger jobs, why jobs wait, what must hold. Ends with [`App::ending`].
pub async fn passes(app: App) {
    let idle = Notify::new();
    tokio::join!(
        pass(&app, Duration::from_secs(1), &idle, "timers", || timers::fire(&app, now())),
        pass(&app, Duration::from_secs(5), &idle, "resources", || timers::grant(&app, now())),
        pass(&app, Duration::from_secs(5), &idle, "leases", || leases::sweep(&app, now())),
        pass(&app, Duration::from_secs(5), &idle, "why jobs wait", || waits::explain(&app, now())),
        pass(&app, Duration::from_secs(5), &app.wake.engine, "trigger jobs", || bridges::run(&app)),
        pass(&app, Duration::from_secs(5), &idle, "schedules", || crate::server::schedules::run(&app, now())),
        pass(&app, Duration::from_secs(60), &idle, "invariants", || async {
            invariants::check(&app).await.map(drop)
        }),
    );
}

/// Does it now, when it is woken, and when its time has passed, until the server ends.
async fn pass<F: Future<Output = Answer<()>>>(
    app: &App,
    every: Duration,
    wake: &Notify,
    what: &'static str,
    work: impl Fn() -> F,
) {
    loop {
        if let Err(problem) = work().await {
            tracing::error!("{what}: {problem}");
        }
        app.beats.ran(what, every.as_secs());
        tokio::select! {
            () = app.ending.cancelled() => return,
            () = wake.notified() => {}
            () = tokio::time::sleep(every) => {}
        }
    }
}
