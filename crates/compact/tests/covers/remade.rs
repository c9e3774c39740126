//! A compactor that is ended after it made a block, and before it marked what that was made of.
//! The samples are such that merging keeps fewer of them than either replica has.

use merge::Dedup;
use testkit::{Fault, FaultPlan, Op};
use tsdb::meta::BlockMeta;

use super::*;

/// In hours 0 to 4, a sample each minute but for two every twelve minutes, at one time in one
/// replica, at another in the other: each time the merge goes on with the one that has no gap, and
/// leaves out what it has close by.
fn replica(n: u128, name: &str) -> BlockFiles {
    let (gap, late_ms) = if n == 1 { (3, 0) } else { (9, MINUTE_MS / 2) };
    let minutes = (0..240).filter(|minute| !(gap..gap + 2).contains(&(minute % 12)));
    let ts: Vec<i64> = minutes.map(|minute| minute * MINUTE_MS + late_ms).collect();
    let samples = ts.into_iter().map(|t| (t, t as f64)).collect::<Vec<_>>();
    let external = Labels::from_pairs([("cluster", "eu"), ("replica", name)]);
    holding(id(n), &samples, external)
}

fn holding(id: BlockId, samples: &[(i64, f64)], external: Labels) -> BlockFiles {
    let (ts, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
    let mut builder = BlockBuilder::new();
    builder.push_floats(&Labels::from_pairs([("__name__", "a")]), &ts, &values).unwrap();
    let range = TimeRange::new(0, 4 * HOUR_MS);
    builder.finish(BlockIdentity { id, range, external_labels: Some(external) }).unwrap()
}

fn settings() -> Settings {
    Settings {
        consistency_delay: Duration::ZERO,
        downsampling: false,
        replica_labels: vec!["replica".to_owned()],
        dedup: Dedup::Penalty,
        ..Settings::default()
    }
}

/// Two replicas and what was made of them; nothing is marked.
async fn ended_before_its_marks() -> (World, BlockMeta) {
    let world = World::empty();
    world.reach(5 * HOUR_MS);
    let replicas = [replica(1, "a"), replica(2, "b")];
    for files in &replicas {
        world.upload(files).await;
    }
    let marks_fail = FaultPlan::new(|call| {
        let marks = call.op == Op::Put && call.key.ends_with("deletion-mark.json");
        marks.then_some(Fault::Denied)
    });
    world.run_under(marks_fail, settings()).await.unwrap();
    assert_eq!(world.marked().await, [""; 0]);
    let made = world.live().await.into_values().find(|meta| !meta.compaction.parents.is_empty());
    let made = made.unwrap();
    let fewest = replicas.iter().map(|files| files.meta.stats.num_samples).min().unwrap();
    let samples = made.stats.num_samples;
    assert!(samples < fewest, "{samples} of {fewest}: counts would prove it");
    (world, made)
}

/// Which of the replicas are marked after a run, and the lines about those that stay.
async fn run(world: &World) -> (Vec<String>, Vec<String>) {
    let lines = Lines::default();
    let heard = tracing::subscriber::set_default(lines.clone());
    world.compactor(settings()).run_once().await.unwrap();
    drop(heard);
    let lines = lines.0.lock().unwrap().clone();
    (world.marked().await, lines.into_iter().filter(|line| line.contains("says that")).collect())
}

fn replicas() -> Vec<String> {
    [1, 2].map(|n| id(n).to_string()).to_vec()
}

#[tokio::test]
async fn what_was_made_before_the_end_replaces_its_inputs_in_the_next_run() {
    let (world, made) = ended_before_its_marks().await;
    assert_eq!(run(&world).await, (replicas(), vec![]));
    assert_eq!(world.live().await.into_values().collect::<Vec<_>>(), [made]);
}

#[tokio::test]
async fn that_some_inputs_are_marked_already_does_not_matter() {
    let (world, made) = ended_before_its_marks().await;
    world.mark(&id(2).to_string()).await;
    assert_eq!(run(&world).await, (replicas(), vec![]));
    assert_eq!(world.live().await.into_values().collect::<Vec<_>>(), [made]);
}

#[tokio::test]
async fn a_block_that_is_not_what_its_inputs_give_replaces_nothing() {
    let (world, made) = ended_before_its_marks().await;
    let mut samples: Vec<(i64, f64)> =
        world.samples_of(&made).await.into_iter().map(|(_, t, value)| (t, value)).collect();
    let as_made = samples.clone();
    samples[100].1 += 1.0;
    let other_id = BlockId::from_parts((4 * HOUR_MS) as u64, 77);
    let cases = [
        ("other samples", made.ulid, &samples[..]),
        ("one sample less", made.ulid, &as_made[..as_made.len() - 1]),
        ("another id", other_id, &as_made[..]),
    ];
    for (name, id, samples) in cases {
        let world = world.copied().await;
        for object in world.objects(&made.ulid.to_string()).await {
            world.delete(&object).await;
        }
        let mut files = holding(id, samples, Labels::from_pairs([("cluster", "eu")]));
        files.meta.compaction = made.compaction.clone();
        world.upload(&files).await;
        let (marked, told) = run(&world).await;
        assert_eq!(marked, [""; 0], "{name}");
        assert_eq!(told.len(), 2, "{name}: {told:?}");
    }
}
