//! What a reader is told while the modules of its subscription are let alone.

use tokio::sync::watch;

/// Says on standard error that nothing comes, and why; and when records come again.
pub(crate) fn tell(mut faults: watch::Receiver<Option<String>>) {
    tokio::spawn(async move {
        // Until the reader is gone.
        while faults.changed().await.is_ok() {
            match &*faults.borrow_and_update() {
                Some(fault) => eprintln!("the subscription is faulted: {fault}"),
                None => eprintln!("the subscription's modules judge records again"),
            }
        }
    });
}
