use super::*;

fn outputs() -> Outputs {
    [(2, (DType::F64, vec![1; 24])), (5, (DType::I32, vec![2; 8]))].into()
}

#[test]
fn results_are_kept_on_disk_and_changed_files_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/for/it");
    let fresh = || ReferenceCache::new(Some(path.clone()));
    let known = |references: &mut ReferenceCache| {
        references.get("k", || Err(Failure::Reference { message: "run".into() })).map(|outputs| (*outputs).clone())
    };
    assert!(known(&mut fresh()).is_err());
    let mut references = fresh();
    references.get("k", || Ok(outputs())).unwrap();
    assert_eq!(known(&mut references), Ok(outputs()), "from memory");
    references.finish_writes();
    assert_eq!(known(&mut fresh()), Ok(outputs()), "from disk");

    let file = path.join("k.ref");
    let good = std::fs::read(&file).unwrap();
    for length in 0..good.len() {
        std::fs::write(&file, &good[..length]).unwrap();
        assert!(known(&mut fresh()).is_err(), "cut at {length}");
    }
    let mut bad = good.clone();
    bad[40] ^= 1;
    std::fs::write(&file, &bad).unwrap();
    assert!(known(&mut fresh()).is_err());
    fresh().get("k", || Ok(outputs())).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), good, "written anew");

    fresh().get("other", || Ok([(2, (DType::F64, vec![9; 24])), (5, (DType::I32, vec![9; 8]))].into())).unwrap();
    std::fs::copy(path.join("other.ref"), &file).unwrap();
    assert!(known(&mut fresh()).is_err(), "a result of another key");
}

#[test]
fn a_result_that_was_sent_is_kept_without_a_folder() {
    let mut data = Vec::new();
    encode("k", &outputs(), &mut data).unwrap();
    let mut references = ReferenceCache::new(None);
    assert!(!references.give("other", data.clone()), "a result of another key");
    assert!(!references.give("k", data[1..].to_vec()));
    assert!(references.known("k").is_none() && references.give("k", data));
    assert_eq!(*references.get("k", || unreachable!("it was sent")).unwrap(), outputs());
}

#[test]
fn the_folder_keeps_the_most_recently_used_results() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let write = |name: &str, age: u64| {
        let path = folder.path().join(name);
        std::fs::write(&path, [0; 100]).unwrap();
        let file = std::fs::File::options().append(true).open(path).unwrap();
        file.set_modified(now - Duration::from_secs(age)).unwrap();
    };
    for (name, age) in [
        ("a.ref", 30),
        ("b.ref", 10),
        ("c.ref", 20),
        (".tmpold", 4000),
        (".tmpnew", 5),
        ("passing-a.ref", 4000),
        ("passing-b.ref", 5),
        ("other", 9000),
    ] {
        write(name, age);
    }
    prune(folder.path(), 200, ABANDONED).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".tmpnew", "b.ref", "c.ref", "other", "passing-b.ref"]);

    ReferenceCache::new(Some(folder.path().to_owned())).get("d", || Ok(outputs())).unwrap();
    std::fs::File::options()
        .append(true)
        .open(folder.path().join("d.ref"))
        .and_then(|file| file.set_modified(now - Duration::from_secs(50)))
        .unwrap();
    ReferenceCache::new(Some(folder.path().to_owned())).get("d", || unreachable!("it is on disk")).unwrap();
    let used = std::fs::metadata(folder.path().join("d.ref")).unwrap().modified().unwrap();
    assert!(used >= now, "its use is remembered");
}

#[test]
fn results_that_are_computed_faster_than_read_are_not_written() {
    assert!(is_worth_writing(SMALL, Duration::ZERO));
    assert!(!is_worth_writing(64 << 20, Duration::from_millis(100)));
    assert!(is_worth_writing(64 << 20, Duration::from_millis(200)));

    let folder = tempfile::tempdir().unwrap();
    let mut references = ReferenceCache::new(Some(folder.path().to_owned()));
    references.put("given", outputs());
    references.finish_writes();
    let mut others = ReferenceCache::new(Some(folder.path().to_owned()));
    assert_eq!(*others.get("given", || unreachable!("it is on disk")).unwrap(), outputs());
}

#[test]
fn an_unwritable_folder_of_results_is_ignored() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut references = ReferenceCache::new(Some(file.path().join("below a file")));
    assert_eq!(*references.get("k", || Ok(outputs())).unwrap(), outputs());
}

#[test]
fn pruning_deletes_no_more_results_than_needed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.ref", "b.ref", "c.ref", "d.ref", "e.ref"] {
        std::fs::write(folder.path().join(name), [0; 100]).unwrap();
    }
    let left = |most| {
        prune(folder.path(), most, ABANDONED).unwrap();
        std::fs::read_dir(folder.path()).unwrap().count()
    };
    assert_eq!([500, 499, 250, 0].map(left), [5, 4, 2, 0]);
}

#[test]
fn a_result_that_was_put_is_there_and_as_large_as_its_tensors() {
    assert_eq!(size(&outputs()), 32);
    let mut references = ReferenceCache::new(None);
    assert!(references.known("k").is_none());
    references.put("k", outputs());
    assert!(references.known("k").is_some() && references.known("other").is_none());
}

#[test]
fn results_on_disk_are_not_written_again_and_all_writes_finish() {
    let folder = tempfile::tempdir().unwrap();
    let mut references = ReferenceCache::new(Some(folder.path().to_owned()));
    // The second is put while the first is being written.
    references.put("large", [(0, (DType::U8, vec![7; 16 << 20]))].into());
    references.put("small", outputs());
    references.finish_writes();
    let mut others = ReferenceCache::new(Some(folder.path().to_owned()));
    for key in ["large", "small"] {
        others.get(key, || unreachable!("it is on disk")).unwrap();
    }
    assert!(others.writes.is_empty());
}
