//! Listing files.

use contract::{FileId, State};
use ledger::{Listing, NewFile, Page};
use testing::new_file;

use crate::stage::Stage;

fn ids(page: &Page) -> Vec<FileId> {
    page.files.iter().map(|file| file.id).collect()
}

/// Seven files, newest first: every second for the archive, the third one of them being chunked.
async fn seven(stage: &Stage) -> Vec<FileId> {
    let mut files = Vec::new();
    for number in 0..7 {
        let remote = (number % 2 == 0).then(|| "archive".to_owned());
        let new = NewFile { remote, ..new_file(3) };
        files.insert(0, new.id);
        stage.ledger.create(new).await.unwrap();
    }
    for at in [2, 3] {
        stage.claim(files[at]).await;
    }
    files
}

#[tokio::test]
async fn files_are_listed_newest_first_page_by_page() {
    let stage = Stage::set().await;
    let all = seven(&stage).await;
    for limit in 1..=8_u16 {
        let (mut listing, mut seen) = (Listing { limit, ..Listing::default() }, Vec::new());
        loop {
            let page = stage.ledger.list(&listing).await.unwrap();
            assert!(page.files.len() <= usize::from(limit));
            seen.extend(ids(&page));
            assert!(seen.len() <= all.len(), "{limit} a page: {seen:?}");
            match page.next {
                Some(next) => {
                    assert_eq!(ids(&page).last(), Some(&next));
                    listing.before = Some(next);
                }
                None => break,
            }
        }
        assert_eq!(seen, all, "{limit} a page");
    }
}

#[tokio::test]
async fn the_last_page_says_so_even_if_it_is_full() {
    let stage = Stage::set().await;
    seven(&stage).await;
    let full = stage.ledger.list(&Listing { limit: 7, ..Listing::default() }).await.unwrap();
    assert_eq!((full.files.len(), full.next), (7, None));
    let none =
        stage.ledger.list(&Listing { before: Some(full.files[6].id), limit: 7, ..Listing::default() }).await.unwrap();
    assert_eq!((none.files.len(), none.next), (0, None));
}

#[tokio::test]
async fn only_files_in_a_state_or_for_a_remote_are_listed() {
    let stage = Stage::set().await;
    let all = seven(&stage).await;
    let of = async |state: Option<State>, remote: Option<&str>, before: Option<FileId>, limit| {
        let listing = Listing { state, remote: remote.map(str::to_owned), before, limit };
        stage.ledger.list(&listing).await.unwrap()
    };
    let pick = |places: &[usize]| places.iter().map(|at| all[*at]).collect::<Vec<_>>();
    let (archive, chunking) = (Some("archive"), Some(State::Chunking));

    assert_eq!(ids(&of(None, archive, None, 10).await), pick(&[0, 2, 4, 6]));
    assert_eq!(ids(&of(chunking, None, None, 10).await), pick(&[2, 3]));
    assert_eq!(ids(&of(Some(State::Prepared), archive, None, 10).await), pick(&[0, 4, 6]));
    assert_eq!(ids(&of(chunking, archive, None, 10).await), pick(&[2]));
    assert_eq!(ids(&of(Some(State::Failed), None, None, 10).await), []);
    assert_eq!(ids(&of(None, Some("$remote"), None, 10).await), []);

    let page = of(None, archive, Some(all[1]), 2).await;
    assert_eq!((ids(&page), page.next), (pick(&[2, 4]), Some(all[4])));
    let page = of(None, archive, page.next, 2).await;
    assert_eq!((ids(&page), page.next), (pick(&[6]), None));
}

/// What a gateway does not accept any more, records of older releases may have.
#[tokio::test]
async fn a_page_of_large_records_is_short() {
    let stage = Stage::set().await;
    let mut files = Vec::new();
    // The last is larger than a page may be; it gets a page of its own.
    for size in [&[60_000; 40][..], &[2_000_000]].concat() {
        let metadata = [("k".to_owned(), "v".repeat(size))].into();
        let new = NewFile { metadata, ..new_file(3) };
        files.insert(0, new.id);
        stage.ledger.create(new).await.unwrap();
    }
    let mut listing = Listing { limit: 1000, ..Listing::default() };
    let (mut seen, mut lengths) = (Vec::new(), Vec::new());
    loop {
        let page = stage.ledger.list(&listing).await.unwrap();
        seen.extend(ids(&page));
        lengths.push(page.files.len());
        match page.next {
            Some(next) => listing.before = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, files);
    assert_eq!(lengths[0], 1);
    assert!(lengths[1..].iter().all(|length| (1..=17).contains(length)), "{lengths:?}");
    assert_eq!(lengths.len(), 1 + 40_usize.div_ceil(17), "{lengths:?}");
}
