//! The demo from its first order to its last check.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_client::{Client, ConnectOptions, Url};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::watch, time::sleep};

use crate::{
    Error, article,
    audit::{self, Books},
    broker::Broker,
    desk::Desk,
    letters,
    logistics::Logistics,
    order::Order,
    payment::Payment,
    report::Report,
    service::Crew,
    shop,
    stock::Stock,
    tally::Tally,
    topics,
};

/// After so long without any progress the demo gives up waiting; the checks then say what is missing.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where the binary is, where the demo writes, and how much it does.
pub(crate) struct Setting {
    binary: PathBuf,
    work: Work,
    orders: u32,
}

enum Work {
    Kept(PathBuf),
    Removed(TempDir),
}

impl Setting {
    /// Finds the binary and makes the folder.
    pub(crate) fn new(
        binary: Option<PathBuf>,
        parent: Option<PathBuf>,
        keep: bool,
        orders: u32,
    ) -> Result<Self, Error> {
        let binary = match binary {
            Some(binary) => binary,
            None => {
                std::env::current_exe().map_err(Error::io("find this program"))?.with_file_name("millstream")
            }
        };
        if !binary.is_file() {
            return Err(Error::NoBinary(binary));
        }
        let parent = parent.unwrap_or_else(std::env::temp_dir);
        let made = tempfile::Builder::new().prefix("millstream-orders-").tempdir_in(&parent);
        let made = made.map_err(Error::io(format!("make a folder in {}", parent.display())))?;
        Ok(Self { binary, work: if keep { Work::Kept(made.keep()) } else { Work::Removed(made) }, orders })
    }
}

impl Work {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Removed(dir) => dir.path(),
        }
    }
}

/// Runs all of it; what does not hold goes into `report`.
pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<(), Error> {
    report.heading("A broker on an empty directory");
    let (_broker, url) = Broker::start(&setting.binary, setting.work.path(), report)?;
    let runtime = Runtime::new().map_err(Error::io("start threads"))?;
    let orders: Vec<_> = Order::numbered(setting.orders).collect();
    runtime.block_on(trade(&url, &orders, report))?;
    if let Work::Kept(path) = &setting.work {
        report.say(&format!("\nEverything is in {}", path.display()));
    }
    Ok(())
}

/// The services at work on `orders`, and the checks.
async fn trade(url: &Url, orders: &[Order], report: &mut Report) -> Result<(), Error> {
    let client = Client::connect(url, ConnectOptions::default()).await?;
    topics::create(&client).await?;
    let delivered = article::delivery_for(orders);
    let stock = Arc::new(Stock::open(&client, delivered.clone()).await?);
    let payment = Arc::new(Payment::open(&client).await?);
    let desk = Arc::new(Desk::open(&client).await?);
    let logistics = Arc::new(Logistics::open(&client).await?);

    // In the middle of the orders, one worker of stock and one of payment.
    let dies_at = Some(orders.len() as u64 / 3 + 1);
    let crew = |name, workers, dies_at| Crew { name, workers, dies_at, tally: Arc::new(Tally::default()) };
    let crews = [
        crew(topics::STOCK, 3, dies_at),
        crew(topics::PAYMENT, 3, dies_at),
        crew(topics::DESK, 3, None),
        crew(topics::LOGISTICS_DESK, 2, None),
    ];
    let [of_stock, of_payment, of_desk, of_logistics] = &crews;
    let (stop, stopped) = watch::channel(false);
    let told = async {
        let plot = Plot { client: &client, orders, payment: &payment, desk: &desk };
        let figures = plot.run(report).await;
        // Fails only when all workers have ended.
        let _ = stop.send(true);
        figures
    };
    let (.., figures) = tokio::try_join!(
        of_stock.run(&stock, url, &stopped),
        of_payment.run(&payment, url, &stopped),
        of_desk.run(&desk, url, &stopped),
        of_logistics.run(&logistics, url, &stopped),
        told,
    )?;
    let books = Books { orders, delivered, stock: &stock, payment: &payment, logistics: &logistics };
    audit::check(&client, &books, &figures, &crews, report).await?;
    client.close().await;
    Ok(())
}

/// What happens from outside while the services work.
struct Plot<'a> {
    client: &'a Client,
    orders: &'a [Order],
    payment: &'a Payment,
    desk: &'a Desk,
}

/// What came of it.
pub(crate) struct Figures {
    pub(crate) placed: u64,
    pub(crate) letters: u64,
    pub(crate) redriven: u64,
    pub(crate) placed_in: Duration,
    /// All orders are at their end, but for those that wait for the bank.
    pub(crate) without_bank_in: Duration,
    /// The others, from when the bank is back.
    pub(crate) with_bank_in: Duration,
}

impl Plot<'_> {
    async fn run(&self, report: &Report) -> Result<Figures, Error> {
        let all = self.orders.len() as u64;
        report.heading(&format!("{all} orders; for some of them the bank is away, and two workers die"));
        let started = Instant::now();
        let placed = shop::place(self.client, self.orders).await?;
        let placed_in = started.elapsed();
        report.say(&format!("  placed after {} ms", placed_in.as_millis()));
        self.wait(async || {
            let (ended, letters) = (self.desk.ended(), letters::written(self.client).await?);
            Ok((ended + letters, ended + letters == all))
        })
        .await?;
        let without_bank_in = started.elapsed();
        let open = letters::open(self.client).await?;
        let letters = open.len() as u64;
        report.say(&format!(
            "  {} are at their end after {} ms, {letters} are dead letters of payment",
            self.desk.ended(),
            without_bank_in.as_millis(),
        ));

        report.heading("The bank is back, and the dead letters are sent back");
        self.payment.bank().come_back();
        let started = Instant::now();
        let redriven = letters::redrive(self.client, open).await?;
        self.wait(async || Ok((self.desk.ended(), self.desk.ended() == all && self.is_quiet().await?)))
            .await?;
        let with_bank_in = started.elapsed();
        report.say(&format!(
            "  {redriven} were sent back, and {} orders are at their end after {} ms",
            self.desk.ended(),
            with_bank_in.as_millis(),
        ));
        Ok(Figures { placed, letters, redriven, placed_in, without_bank_in, with_bank_in })
    }

    /// Whether nothing is left to be done in any subscription.
    async fn is_quiet(&self) -> Result<bool, Error> {
        for name in topics::SUBSCRIPTIONS {
            if audit::left(self.client, name).await? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until `look` says that it is so, as long as the figure that it gives changes.
    async fn wait(&self, look: impl AsyncFn() -> Result<(u64, bool), Error>) -> Result<(), Error> {
        let (mut last, mut changed) = (0, Instant::now());
        loop {
            let (progress, done) = look().await?;
            if progress != last {
                (last, changed) = (progress, Instant::now());
            }
            if done || changed.elapsed() > PATIENCE {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
