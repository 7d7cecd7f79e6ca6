//! A stream of module lines: the last ones, and those that come.

use std::sync::Arc;

use bytes::Bytes;
use millstream_quic::{FrameReader, FrameWriter};
use millstream_wire::{Answer, ModuleLogFilter, ModuleLogLine};

use crate::{session::Context, stream::StreamError};

/// Tells lines until the client finishes the stream or, where it does not `follow`, the last of those that are kept.
pub(crate) async fn serve(
    context: &Arc<Context>,
    filter: ModuleLogFilter,
    last: u32,
    follow: bool,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> Result<(), StreamError> {
    let mut log = context.broker.module_log(filter, last as usize);
    writer.push(&Answer::Ok(()), Bytes::new()).await?;
    loop {
        while let Some(line) = log.next_kept() {
            writer.push(&*line, Bytes::new()).await?;
        }
        writer.flush().await?;
        if !follow {
            break;
        }
        tokio::select! {
            line = log.next() => match line {
                Some(line) => writer.push(&*line, Bytes::new()).await?,
                None => break,
            },
            // Nothing is to come from the client but its end.
            _ = reader.next::<ModuleLogLine>() => break,
        }
    }
    writer.end();
    Ok(())
}
