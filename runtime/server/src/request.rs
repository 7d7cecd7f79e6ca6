//! One request, one answer.

use bytes::Bytes;
use millstream_broker::{Error, NewSubscription};
use millstream_quic::FrameWriter;
use millstream_types::{DeliveryConfig, RecordBatch, TopicName};
use millstream_wire::{Answer, AtomicPart, Request, Response};

use crate::{
    error::to_wire,
    peer::Peer,
    publish::{checked, receipt_of as receipt},
    session::Context,
    stream::StreamError,
};

/// Does what is asked and answers.
pub(crate) async fn serve(
    context: &Context,
    peer: &Peer,
    request: Request,
    body: Bytes,
    mut writer: FrameWriter,
) -> Result<(), StreamError> {
    let (answer, body) = match answer(context, peer, request, body).await {
        Ok((response, body)) => (Answer::Ok(response), body),
        Err(error) => (Answer::Err(to_wire(&error)), Bytes::new()),
    };
    writer.send(&answer, body).await?;
    writer.end();
    Ok(())
}

/// The answer and its body.
async fn answer(
    context: &Context,
    peer: &Peer,
    request: Request,
    body: Bytes,
) -> Result<(Response, Bytes), Error> {
    let broker = &context.broker;
    let response = match request {
        Request::Ping => Response::Done,
        Request::Info => Response::Server(context.info()),
        Request::CreateTopic { name, config, ingest } => {
            broker.create_judged_topic(&name, config, &ingest).await?;
            Response::Topic(broker.describe_topic(&name)?)
        }
        Request::SetIngest { name, pipeline } => {
            broker.set_ingest(&name, &pipeline).await?;
            Response::Topic(broker.describe_topic(&name)?)
        }
        Request::UpdateTopic { name, changes } => {
            broker.update_topic(&name, changes).await?;
            Response::Topic(broker.describe_topic(&name)?)
        }
        Request::ListTopics => Response::Topics(broker.topics()),
        Request::DescribeTopic { name } => Response::Topic(broker.describe_topic(&name)?),
        Request::DeleteTopic { name } => {
            broker.delete_topic(&name).await?;
            Response::Done
        }
        Request::PublishAtomically { parts } => {
            let places: Vec<_> = parts.iter().map(|part| part.partition).collect();
            let appended = broker.append_all(&peer.allowance, split(parts, body)?).await?;
            let receipts = places.into_iter().zip(appended).map(|(partition, done)| receipt(partition, done));
            Response::Receipts(receipts.collect())
        }
        Request::PutModule { name } => Response::Module(broker.put_module(name, body).await?),
        Request::ListModules => Response::Modules(broker.modules()),
        Request::DescribeModule { reference } => Response::Module(broker.module(reference).await?),
        Request::GetModule { reference } => {
            let (info, wasm) = broker.module_bytes(reference).await?;
            return Ok((Response::Module(info), wasm));
        }
        Request::DeleteModule { reference } => {
            broker.delete_module(&reference).await?;
            Response::Done
        }
        Request::CreateSubscription { name, topic, from, pipeline, on_fault, delivery } => {
            let (pipeline, delivery) = (Some(pipeline), Some(delivery));
            let wanted = NewSubscription { topic, name: None, from, pipeline, on_fault, delivery };
            Response::Subscription(Box::new(broker.create_subscription(name, wanted).await?.info()))
        }
        Request::CreateProcessor { name, config, from, pipeline, on_fault, dead_letters } => {
            let delivery = Some(DeliveryConfig { dead_letters, ..DeliveryConfig::default() });
            let Some(topic) = config.sources.first().cloned() else {
                let why = "it has no source; name a topic".to_owned();
                return Err(Error::Processor { name, why });
            };
            let wanted =
                NewSubscription { topic, name: None, from, pipeline: Some(pipeline), on_fault, delivery };
            Response::Subscription(Box::new(broker.create_processor(name, config, wanted).await?.info()))
        }
        Request::ChangeProcessor { name, change } => {
            broker.change_processor(&name, change).await?;
            Response::Subscription(Box::new(broker.subscription(&name)?.info()))
        }
        Request::ProcessorState { name, prefix, after, limit } => {
            let page = broker.processor_state(&name, prefix.into(), after.map(Bytes::from), limit).await?;
            return Ok((Response::Done, page.map(RecordBatch::into_bytes).unwrap_or_default()));
        }
        Request::ListSubscriptions => Response::Subscriptions(broker.subscriptions()),
        Request::DescribeSubscription { name } => {
            Response::Subscription(Box::new(broker.describe_subscription(&name).await?))
        }
        Request::Rebind { name, rebinding } => {
            broker.rebind(&name, rebinding).await?;
            Response::Subscription(Box::new(broker.subscription(&name)?.info()))
        }
        Request::DeleteSubscription { name } => {
            broker.delete_subscription(&name).await?;
            Response::Done
        }
        Request::DeadLetters { subscription, partition, from } => {
            let found = broker.dead_letters(&subscription, partition, from).await?;
            let (partitions, end) = (found.topic.config().partitions, found.topic.end(partition));
            let response = Response::DeadLetters {
                topic: found.topic.name().clone(),
                partitions,
                next: found.next,
                end,
            };
            return Ok((response, found.letters.map(RecordBatch::into_bytes).unwrap_or_default()));
        }
        Request::CloseDeadLetters { subscription, letters, redrive } => {
            Response::Count(broker.close_dead_letters(&subscription, &letters, redrive).await?)
        }
    };
    Ok((response, Bytes::new()))
}

/// The batches that `body` holds, checked in full.
fn split(parts: Vec<AtomicPart>, mut body: Bytes) -> Result<Vec<(TopicName, u32, RecordBatch)>, Error> {
    let batches = parts.into_iter().map(|AtomicPart { topic, partition, bytes }| {
        let bytes = bytes as usize;
        if bytes > body.len() {
            let text =
                format!("a part of {bytes} bytes is announced, and {} are left of the body", body.len());
            return Err(Error::BadFrame(text));
        }
        Ok((topic, partition, checked(body.split_to(bytes))?))
    });
    let batches = batches.collect::<Result<Vec<_>, _>>()?;
    match body.len() {
        0 => Ok(batches),
        left => Err(Error::BadFrame(format!("{left} bytes of the body belong to no part"))),
    }
}
