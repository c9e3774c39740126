//! Opens blocks before anybody asks for them: a query then begins with its postings, and not with
//! what every query needs first.

use std::sync::Arc;

use block::BlockReader;
use block::reader::ReaderSettings;
use futures::{StreamExt, stream};
use model::error::in_one_line;
use storeapi::PartialResponse;

use crate::block_error::BlockError;
use crate::context::RequestContext;
use crate::served::{ServedBlock, ServedBlocks};
use crate::shared::GatewayShared;
use crate::source::{open_parquet, open_tsdb, tsdb_reader};

/// Blocks opened at a time; requests that open blocks go beside them.
const AT_A_TIME: usize = 4;

/// Postings of a block that take more bytes are left to requests.
const MAX_POSTINGS: u64 = 4 << 20;

async fn open_ahead_tsdb(reader: &BlockReader, context: &RequestContext) -> Result<(), BlockError> {
    open_tsdb(reader, context).await?;
    if !context.shared.ranges.is_index_half_full() {
        reader.fetch_postings_ahead(MAX_POSTINGS).await?;
    }
    Ok(())
}

/// Opens blocks, the newest first, until the caches are half full: what requests read has the other
/// half. What cannot be opened is told to those who ask for it.
pub(crate) async fn open_ahead(shared: Arc<GatewayShared>, served: Arc<ServedBlocks>) {
    let mut blocks: Vec<Arc<ServedBlock>> = served.blocks().cloned().collect();
    blocks.sort_by_key(|block| std::cmp::Reverse((block.meta.max_time, block.id())));
    let context = &RequestContext::new(Arc::clone(&shared), PartialResponse::Warn);
    let shared = &shared;
    let open = |block: Arc<ServedBlock>| async move {
        let opened = match block.location.is_parquet() {
            true if shared.footers.is_half_full() => return,
            true => open_parquet(&block, context).await.map(drop),
            false if shared.headers.is_half_full() || shared.was_loaded(block.id()) => return,
            false => {
                let reader = tsdb_reader(&block, context, ReaderSettings::default());
                open_ahead_tsdb(&reader, context).await
            }
        };
        if let Err(error) = opened {
            tracing::debug!(block = %block.id(), error = %in_one_line(&error), "block could not \
                be opened ahead of requests");
        }
    };
    stream::iter(blocks).for_each_concurrent(AT_A_TIME, open).await;
}
