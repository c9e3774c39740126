//! Which formats downsampled blocks get where nobody says so: nothing is hidden from stores of
//! Thanos, and one word ends it.

use std::time::Duration;

use compact::{DownsampleFormat, Settings};
use model::Resolution;

use super::support::{Blocks, World};

const CHOICE: &str = "drumlin/downsample-format.json";

/// How many 5m blocks a server has as Parquet, and how many in Thanos' format.
#[derive(Debug, PartialEq)]
struct Copies {
    parquet: usize,
    thanos: usize,
}

async fn copies(world: &World) -> Copies {
    let blocks = Blocks::of(world).await;
    Copies {
        parquet: blocks.copies("eu", "a", Resolution::FiveMinutes).len(),
        thanos: blocks.thanos_copies("eu", "a", Resolution::FiveMinutes).len(),
    }
}

async fn run(world: &World, downsample_format: DownsampleFormat) -> Copies {
    let settings = Settings { downsample_format, ..Settings::default() };
    world.compactor(settings).run_once().await.unwrap();
    copies(world).await
}

/// As if a sidecar of Thanos had uploaded all blocks, whose ids say when.
async fn uploaded_by_thanos(world: &World) {
    for (folder, mut meta) in world.live().await {
        meta.thanos.as_mut().unwrap().extensions = None;
        world.put_bytes(&format!("{folder}/meta.json"), meta.to_json()).await;
    }
}

#[tokio::test]
async fn a_bucket_that_only_we_wrote_gets_parquet() {
    let world = World::with_days(3, 1).await;
    assert_eq!(run(&world, DownsampleFormat::Auto).await, Copies { parquet: 1, thanos: 0 });
    assert!(!world.exists(CHOICE).await, "nobody asked for anything");
    for (folder, meta) in world.live().await {
        assert!(meta.is_signed(), "{folder}");
    }
}

#[tokio::test]
async fn a_bucket_with_uploads_of_thanos_gets_both_until_parquet_is_asked_for() {
    let both = World::with_days(3, 1).await;
    uploaded_by_thanos(&both).await;
    let asked = both.copied().await;
    assert_eq!(run(&both, DownsampleFormat::Auto).await, Copies { parquet: 1, thanos: 1 });
    let before = both.state().await;
    assert_eq!(run(&both, DownsampleFormat::Auto).await, Copies { parquet: 1, thanos: 1 });
    assert_eq!(both.state().await, before, "a second run finds nothing to do");

    assert_eq!(run(&asked, DownsampleFormat::Parquet).await, Copies { parquet: 1, thanos: 0 });
    assert_eq!(run(&asked, DownsampleFormat::Auto).await, Copies { parquet: 1, thanos: 0 });
    assert_eq!(run(&asked, DownsampleFormat::Both).await, Copies { parquet: 1, thanos: 1 });
    assert!(!asked.exists(CHOICE).await, "the last word counts");
}

#[tokio::test]
async fn what_is_there_stays_when_parquet_is_asked_for() {
    let world = World::with_days(3, 1).await;
    uploaded_by_thanos(&world).await;
    run(&world, DownsampleFormat::Auto).await;
    let before = world.state().await;
    run(&world, DownsampleFormat::Parquet).await;
    assert_eq!(world.state().await, before);
    assert!(world.exists(CHOICE).await);
}

#[tokio::test]
async fn uploads_of_thanos_count_for_thirty_days() {
    let world = World::with_days(3, 1).await;
    uploaded_by_thanos(&world).await;
    world.advance(Duration::from_secs(31 * 86_400));
    assert_eq!(run(&world, DownsampleFormat::Auto).await.thanos, 0);
}

#[tokio::test]
async fn a_downsampled_block_in_thanos_format_counts_as_long_as_it_is_there() {
    let world = World::with_days(5, 1).await;
    assert_eq!(run(&world, DownsampleFormat::Thanos).await.thanos, 2);
    let thanos = world.live().await.into_iter().filter(|(_, m)| m.resolution() != Resolution::Raw);
    let folders: Vec<String> = thanos.map(|(folder, _)| folder).collect();
    // one of the copies is lost, so that it would be written again
    world.mark(&folders[0]).await;
    world.advance(Duration::from_secs(40 * 86_400));
    let gone = world.copied().await;
    run(&world, DownsampleFormat::Auto).await;
    let written = world.live().await.into_values().filter(|m| m.resolution() != Resolution::Raw);
    assert!(written.filter(|m| m.format.is_none()).count() > folders.len() - 1, "both formats");
    for folder in &folders[1..] {
        gone.mark(folder).await;
    }
    assert_eq!(
        run(&gone, DownsampleFormat::Auto).await.thanos,
        0,
        "marked blocks count for nothing"
    );
}

#[tokio::test]
async fn a_choice_that_cannot_be_read_hides_nothing() {
    let world = World::with_days(3, 1).await;
    uploaded_by_thanos(&world).await;
    world.put(CHOICE, b"parquet, please").await;
    assert_eq!(run(&world, DownsampleFormat::Auto).await, Copies { parquet: 1, thanos: 1 });
}
