//! What the node gets from the ledger as it goes: leases, the sid key; and what it gives to it.

use std::sync::Arc;
use std::time::Duration;

use seam_cluster::ledger::NewUser;
use seam_cluster::{Cluster, users_file};
use seam_stratum::SidKey;
use tokio_util::sync::CancellationToken;

use crate::fault::Code;
use crate::pool::Pool;

/// Keeps the pool supplied with the sid key and numbers for sessions.
pub async fn numbers(cluster: Cluster, pool: Arc<Pool>, holder: String) {
    let mut view = cluster.view();
    loop {
        if let Some(key) = cluster.read(|state| state.identity().sid_key()) {
            pool.registry.set_sid_key(SidKey(key.0));
            break;
        }
        // The view changes with what is applied; a timeout covers a change that came in between.
        let _ = tokio::time::timeout(RETRY, view.changed()).await;
    }
    loop {
        pool.registry.numbers_wanted().await;
        match cluster.extranonce_range(&holder).await {
            Ok(range) => pool.registry.add_numbers(range),
            Err(error) => {
                tracing::debug!(%error, "no extranonce1 to be had");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Leases job ids for the job maker's thread: waits until there is a quorum, or the stop.
pub fn job_lease(
    cluster: Cluster,
    stopping: CancellationToken,
) -> Box<dyn Fn() -> Option<u32> + Send> {
    let runtime = tokio::runtime::Handle::current();
    Box::new(move || {
        let lease = async {
            loop {
                match cluster.job_lease().await {
                    Ok(lease) => return lease,
                    Err(error) => {
                        tracing::debug!(%error, "no job ids to be had");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        };
        runtime.block_on(stopping.run_until_cancelled(lease))
    })
}

/// Imports bcoin-stratum's users once there is a quorum; those that exist stay as they are.
pub async fn import_users(cluster: Cluster, users: Vec<NewUser>) {
    let (mut imported, mut kept) = (0, 0);
    for batch in users_file::batches(users) {
        loop {
            match cluster.import_users(batch.clone()).await {
                Ok((added, there)) => {
                    imported += added;
                    kept += there;
                    break;
                }
                Err(seam_cluster::ChangeError::Refused(refusal)) => {
                    tracing::error!(code = %Code::UsersFile, %refusal, "users are not imported");
                    return;
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }
    if imported + kept > 0 {
        tracing::info!(imported, kept, "users imported");
    }
}

/// Before the ledger is asked again.
const RETRY: Duration = Duration::from_millis(500);
