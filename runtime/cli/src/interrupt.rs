//! What ends a command in good order: Ctrl-C, and the signal that `kill`, `timeout` and service managers send.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the command is to end. The first poll takes the signals over. Cancel-safe.
pub(crate) async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            // Then it ends the process at once, as it did before.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
