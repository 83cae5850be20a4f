//! The CRMs of the story: simulated, filled with generated people and the people of the story, and
//! served over HTTP on free ports. Invariant: what was started here is stopped here.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use crm_simulator::{
    Router,
    command::LEADS_ONE_IN,
    pipedrive::{self, Pipedrive, PipedriveConfig},
    salesforce::{self, Salesforce, SalesforceConfig},
    zendesk::{self, Zendesk, ZendeskConfig},
};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::people::{self, DemoPeople};
use crate::{
    config::{ProviderConfig, ProvidersConfig, SecretText},
    domain::clock::Clock,
    domain::provider::Provider,
};

/// Of the generated people: the same in every demo. Each CRM has its own, from this seed on.
const SEED: u64 = 1;

/// From look to look at what is to be pushed.
const PUSH_EVERY: Duration = Duration::from_millis(50);

/// Three CRMs, and where each is served.
pub(super) struct DemoCrms {
    pub(super) zendesk: Arc<Zendesk>,
    pub(super) zendesk_url: String,
    pub(super) salesforce: Arc<Salesforce>,
    pub(super) salesforce_url: String,
    salesforce_streams_url: String,
    pub(super) pipedrive: Arc<Pipedrive>,
    pub(super) pipedrive_url: String,
    serving: Serving,
}

/// The simulators' tasks.
#[derive(Default)]
struct Serving {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl DemoCrms {
    /// Fills each with so many people and the people of the story, and serves it.
    pub(super) async fn open(clock: Arc<dyn Clock>, people: usize) -> anyhow::Result<(Self, DemoPeople)> {
        // Generating takes seconds for a large account; the runtime's threads are not for that.
        let filling = tokio::task::spawn_blocking(move || fill(&clock, people));
        let (zendesk, salesforce, pipedrive, demo_people) = filling.await.context("filling the CRMs failed")??;
        let serving = Serving::default();
        let crms = Self {
            zendesk_url: serving.serve("Zendesk", zendesk::router(Arc::clone(&zendesk))).await?,
            salesforce_url: serving.serve("Salesforce", salesforce::router(Arc::clone(&salesforce))).await?,
            salesforce_streams_url: serving.serve_streams(Arc::clone(&salesforce)).await?,
            pipedrive_url: serving.serve("Pipedrive", pipedrive::router(Arc::clone(&pipedrive))).await?,
            zendesk,
            salesforce,
            pipedrive,
            serving,
        };
        crms.push_changes();
        Ok((crms, demo_people))
    }

    /// Tells the service where they are, which OAuth client is its own, and that all of their quota
    /// is. What proves Salesforce's streams is put into the demo's folder.
    pub(super) fn seed(&self, providers: &mut ProvidersConfig, dir: &Path) -> anyhow::Result<()> {
        let is_at = |provider: &mut ProviderConfig, url: &str, id: &str, secret: &str| {
            provider.base_url = Some(url.to_owned());
            provider.client_id = Some(id.to_owned());
            provider.client_secret = Some(SecretText(secret.into()));
            // Nobody else asks here.
            provider.quota_share_percent = 100;
            provider.first_copy_share_percent = 100;
        };
        let each = &mut providers.each;
        let (id, secret) = (zendesk::DEFAULT_CLIENT_ID, zendesk::DEFAULT_CLIENT_SECRET);
        is_at(&mut each[Provider::Zendesk], &self.zendesk_url, id, secret);
        let (id, secret) = (salesforce::DEFAULT_CLIENT_ID, salesforce::DEFAULT_CLIENT_SECRET);
        is_at(&mut each[Provider::Salesforce], &self.salesforce_url, id, secret);
        let (id, secret) = (pipedrive::DEFAULT_CLIENT_ID, pipedrive::DEFAULT_CLIENT_SECRET);
        is_at(&mut each[Provider::Pipedrive], &self.pipedrive_url, id, secret);
        let ca_file = dir.join("salesforce-streams.pem");
        std::fs::write(&ca_file, salesforce::CERTIFICATE)
            .with_context(|| format!("cannot write {}", ca_file.display()))?;
        providers.salesforce_streams_url = Some(self.salesforce_streams_url.clone());
        providers.salesforce_streams_ca_file = Some(ca_file);
        Ok(())
    }

    /// Calls hooks when it is time.
    fn push_changes(&self) {
        let (zendesk, pipedrive) = (Arc::clone(&self.zendesk), Arc::clone(&self.pipedrive));
        let stop = self.serving.stop.clone();
        self.serving.tasks.spawn(stop.run_until_cancelled_owned(async move {
            loop {
                zendesk.deliver_due().await;
                pipedrive.deliver_due().await;
                sleep(PUSH_EVERY).await;
            }
        }));
    }

    /// Stops serving.
    pub(super) async fn close(self) {
        self.serving.stop.cancel();
        self.serving.tasks.close();
        self.serving.tasks.wait().await;
    }
}

impl Serving {
    /// The same of what Salesforce streams, over TLS.
    async fn serve_streams(&self, salesforce: Arc<Salesforce>) -> anyhow::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port is free for Salesforce's streams")?;
        let address = listener.local_addr().context("the bound address cannot be read")?;
        let serving = salesforce::serve_eventbus(listener, salesforce, self.stop.clone());
        self.tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the simulated Salesforce's streams have stopped");
            }
        });
        Ok(format!("https://{address}"))
    }

    /// Serves on a free port; the URL.
    async fn serve(&self, name: &'static str, router: Router) -> anyhow::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.with_context(|| format!("no port is free for {name}"))?;
        let address = listener.local_addr().context("the bound address cannot be read")?;
        let serving = crm_simulator::serve(listener, router, self.stop.clone());
        self.tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the simulated {name} has stopped");
            }
        });
        Ok(format!("http://{address}"))
    }
}

type Filled = (Arc<Zendesk>, Arc<Salesforce>, Arc<Pipedrive>, DemoPeople);

fn fill(clock: &Arc<dyn Clock>, people: usize) -> anyhow::Result<Filled> {
    let now = || -> crm_simulator::SimulatorClock {
        let clock = Arc::clone(clock);
        Arc::new(move || clock.now())
    };
    let zendesk = Zendesk::new(ZendeskConfig::new(now()).without_lag());
    zendesk.generate_people(people, SEED).context("filling Zendesk")?;
    let salesforce = Salesforce::new(SalesforceConfig::new(now()).without_lag());
    let leads = people / LEADS_ONE_IN;
    salesforce.generate_people(people - leads, leads, SEED + 1).context("filling Salesforce")?;
    let pipedrive = Pipedrive::new(PipedriveConfig::new(now()).without_lag());
    pipedrive.generate_people(people, SEED + 2).context("filling Pipedrive")?;
    let demo_people = people::seed(&zendesk, &salesforce, &pipedrive)?;
    Ok((zendesk, salesforce, pipedrive, demo_people))
}
