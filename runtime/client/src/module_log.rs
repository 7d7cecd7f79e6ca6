//! Following what modules write.

use millstream_quic::{FrameReader, FrameWriter};
use millstream_types::{ModuleLogFilter, ModuleLogLine};
use millstream_wire::Open;

use crate::{CallError, Client, limits, stream};

/// Lines of modules, from those that were asked for on. Dropping it ends that.
#[derive(Debug)]
pub struct ModuleLog {
    reader: FrameReader,
    /// Its end tells the broker that nobody follows any more.
    _writer: FrameWriter,
}

impl Client {
    /// The last `last` lines of modules that `filter` lets through, those that the broker says of them included; with
    /// `follow` also those that come, until the connection is lost. Cancel-safe.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn module_log(
        &self,
        filter: ModuleLogFilter,
        last: u32,
        follow: bool,
    ) -> Result<ModuleLog, CallError> {
        let connection = self.session_connection().await?;
        let open = Open::ModuleLog { filter, last, follow };
        let opened = stream::open::<()>(&connection, &open, limits::LINES).await?;
        Ok(ModuleLog { reader: opened.reader, _writer: opened.writer })
    }
}

impl ModuleLog {
    /// The next line; `None` behind the last. Cancel-safe.
    ///
    /// # Errors
    /// [`CallError::Lost`] when the connection is.
    pub async fn next(&mut self) -> Result<Option<ModuleLogLine>, CallError> {
        Ok(self.reader.next::<ModuleLogLine>().await?.map(|(line, _)| line))
    }
}
