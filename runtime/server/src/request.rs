//! One request, one answer.

use bytes::Bytes;
use millstream_broker::{Error, NewSubscription};
use millstream_quic::FrameWriter;
use millstream_wire::{Answer, Request, Response};

use crate::{error::to_wire, session::Context, stream::StreamError};

/// Does what is asked and answers.
pub(crate) async fn serve(
    context: &Context,
    request: Request,
    body: Bytes,
    mut writer: FrameWriter,
) -> Result<(), StreamError> {
    let answer: Answer<Response> = match answer(context, request, body).await {
        Ok(response) => Answer::Ok(response),
        Err(error) => Answer::Err(to_wire(&error)),
    };
    writer.send(&answer, Bytes::new()).await?;
    writer.end();
    Ok(())
}

async fn answer(context: &Context, request: Request, body: Bytes) -> Result<Response, Error> {
    let broker = &context.broker;
    Ok(match request {
        Request::Ping => Response::Done,
        Request::Info => Response::Server(context.info()),
        Request::CreateTopic { name, config } => {
            broker.create_topic(&name, config).await?;
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
        Request::PutModule { name } => Response::Module(broker.put_module(name, body).await?),
        Request::ListModules => Response::Modules(broker.modules()),
        Request::DescribeModule { reference } => Response::Module(broker.module(&reference)?),
        Request::CreateSubscription { name, topic, from, pipeline, on_fault } => {
            let wanted = NewSubscription { topic, name: None, from, pipeline: Some(pipeline), on_fault };
            Response::Subscription(broker.create_subscription(name, wanted).await?.info())
        }
        Request::ListSubscriptions => Response::Subscriptions(broker.subscriptions()),
        Request::DescribeSubscription { name } => Response::Subscription(broker.subscription(&name)?.info()),
        Request::DeleteSubscription { name } => {
            broker.delete_subscription(&name).await?;
            Response::Done
        }
    })
}
