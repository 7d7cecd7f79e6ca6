//! A stream of an established connection: its first frame says what it is for.

use std::sync::Arc;

use bytes::Bytes;
use millstream_quic::{FrameReader, FrameWriter, ReadError, WriteError};
use millstream_types::limits::BATCH_BYTES_MAX;
use millstream_wire::{Answer, CloseCode, ErrorCode, FrameLimits, Open, Response, WireError};
use quinn::{RecvStream, SendStream};

use crate::{consume, error::of_frame, module_log, peer::Peer, publish, request, session::Context, work};

/// Most bytes of a head from a client.
const HEAD_BYTES_MAX: usize = 4 << 20;

/// Why a stream ended early; there is nobody left to tell.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Serves one stream until it ends.
pub(crate) async fn serve(context: &Arc<Context>, peer: Arc<Peer>, send: SendStream, receive: RecvStream) {
    let body_bytes_max = context.config.modules.module_bytes.max(BATCH_BYTES_MAX);
    let limits = FrameLimits { head_bytes_max: HEAD_BYTES_MAX, body_bytes_max };
    let (mut reader, mut writer) = (FrameReader::new(receive, limits), FrameWriter::new(send));
    let first = reader.next::<Open>().await;
    let stays = matches!(
        &first,
        Ok(Some((Open::Publish { .. } | Open::Subscribe(_) | Open::Work(_) | Open::ModuleLog { .. }, _)))
    );
    let _place = match stays.then(|| peer.place()).transpose() {
        Ok(place) => place,
        Err(error) => {
            reader.stop(CloseCode::Busy.code());
            // Fails only when nobody waits for it.
            let _ = refuse(&mut writer, error).await;
            return;
        }
    };
    let served = match first {
        Ok(Some((Open::Request(request), body))) => {
            request::serve(context, &peer, request, body, writer).await
        }
        Ok(Some((Open::Publish { topic, producer, resume, anew }, _))) => {
            let wanted = publish::Wanted { topic, producer, resume, anew };
            publish::serve(context, &peer, wanted, reader, writer).await
        }
        Ok(Some((Open::Subscribe(wanted), _))) => consume::serve(context, wanted, reader, writer).await,
        Ok(Some((Open::Work(wanted), _))) => work::serve(context, peer, wanted, reader, writer).await,
        Ok(Some((Open::ModuleLog { filter, last, follow }, _))) => {
            module_log::serve(context, filter, last, follow, reader, writer).await
        }
        Ok(Some((Open::Hello(_), _))) => {
            let text = "Hello belongs on the first stream of a connection only";
            refuse(&mut writer, WireError::refused(ErrorCode::BadRequest, text)).await
        }
        Ok(None) => Ok(()),
        Err(ReadError::Stream(_)) => Ok(()),
        Err(error) => {
            reader.stop(CloseCode::Protocol.code());
            refuse(&mut writer, of_frame(&error)).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "stream ended early");
    }
}

/// Answers a stream's first frame with an error.
pub(crate) async fn refuse(writer: &mut FrameWriter, error: WireError) -> Result<(), StreamError> {
    writer.send(&Answer::<Response>::Err(error), Bytes::new()).await?;
    writer.end();
    Ok(())
}
