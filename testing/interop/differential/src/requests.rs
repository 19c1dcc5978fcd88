//! Thousands of generated requests, every answer compared.

use std::time::Duration;

use crate::ask::Ask;
use crate::generate::Generator;
use crate::options::Options;
use crate::pair::Pair;

/// After so many requests the stores are compared as a whole.
const CHECKPOINT: usize = 500;
/// Compaction of the files ends in its own time on both sides.
const QUIET: Duration = Duration::from_secs(10);

pub async fn run(options: &Options) -> Result<(), String> {
    let mut pair = Pair::start(&options.etcd(), &options.ours, &[]).await?;
    let mut generator = Generator::new(options.seed);
    let mut next_checkpoint = CHECKPOINT;
    while pair.asked < options.requests && pair.differences.len() < 200 {
        for ask in generator.next() {
            let answer = pair.ask(&ask).await?;
            if let Some(revision) = Ask::revision(&answer) {
                generator.revision = generator.revision.max(revision);
            }
        }
        if pair.asked >= next_checkpoint {
            next_checkpoint += CHECKPOINT;
            checkpoint(&mut pair, &generator).await?;
        }
    }
    checkpoint(&mut pair, &generator).await?;
    whole_hash(&mut pair).await?;
    pair.verdict("requests")
}

async fn checkpoint(pair: &mut Pair, generator: &Generator) -> Result<(), String> {
    pair.ask(&Ask::status()).await?;
    pair.ask(&Ask::hash_kv(0)).await?;
    let span = generator.revision - generator.compacted;
    for step in 0..10 {
        pair.ask(&Ask::hash_kv(generator.compacted + span * step / 10)).await?;
    }
    Ok(())
}

/// Over every bucket, once neither side has work left.
async fn whole_hash(pair: &mut Pair) -> Result<(), String> {
    let ask = Ask::hash();
    let deadline = std::time::Instant::now() + QUIET;
    loop {
        let (theirs, ours) = (ask.send(&pair.theirs).await?, ask.send(&pair.ours).await?);
        let Some(difference) = ask.difference(&theirs, &ours) else { return Ok(()) };
        if std::time::Instant::now() > deadline {
            pair.note(difference);
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
