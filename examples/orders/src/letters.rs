//! Dead letters of payment: order events that it gave up.

use millstream_client::{Client, Offset};

use crate::{Error, topics};

/// How many have been written so far.
pub(crate) async fn written(client: &Client) -> Result<u64, Error> {
    Ok(client.describe_topic(topics::topic(topics::PAYMENT_LETTERS)).await?.records)
}

/// Those that are neither sent back nor purged, by partition and offset.
pub(crate) async fn open(client: &Client) -> Result<Vec<(u32, Offset)>, Error> {
    let mut open = Vec::new();
    let (mut partition, mut from) = (0, 0);
    loop {
        let name = topics::subscription(topics::PAYMENT);
        let page = client.dead_letters(name, partition, from).await?;
        let letters = page.letters.iter().flat_map(|letters| letters.view().records());
        open.extend(letters.map(|letter| (partition, letter.offset)));
        from = page.next;
        if from >= page.end {
            (partition, from) = (partition + 1, 0);
        }
        if partition >= page.partitions {
            return Ok(open);
        }
    }
}

/// Has payment try them again; how many were sent back.
pub(crate) async fn redrive(client: &Client, letters: Vec<(u32, Offset)>) -> Result<u64, Error> {
    Ok(client.redrive(topics::subscription(topics::PAYMENT), letters).await?)
}
