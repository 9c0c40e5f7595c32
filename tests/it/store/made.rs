//! Looking whether there is a database makes none.

use stepgate::store::Store;

use super::fixture::Fixture;
use super::on_both;

on_both!(a_store_is_made_once_its_tables_are_there);

async fn a_store_is_made_once_its_tables_are_there(f: &Fixture) {
    assert!(Store::is_made(&f.settings, &f.state).await.unwrap());
    if f.is_postgres() {
        f.by_hand("DROP TABLE schema_version").await;
        assert!(!Store::is_made(&f.settings, &f.state).await.unwrap());
    } else {
        let empty = tempfile::tempdir().unwrap();
        assert!(!Store::is_made(&f.settings, &empty.path().join("state")).await.unwrap());
        assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "nothing is made by asking");
    }
}
