//! redis-rs: blocking and multiplexed, in RESP2 and RESP3.

use redis::{AsyncCommands, Commands, FromRedisValue, RedisResult};

use crate::support::Server;

fn url(server: &Server, protocol: u8) -> String {
    format!("redis://127.0.0.1:{}/?protocol=resp{protocol}", server.port)
}

fn client(server: &Server, protocol: u8) -> redis::Client {
    redis::Client::open(url(server, protocol)).expect("an URL it understands")
}

#[test]
fn blocking() -> RedisResult<()> {
    let server = Server::start(&[]);
    for protocol in [2, 3] {
        let mut connection = client(&server, protocol).get_connection()?;
        let () = connection.set("k", "v")?;
        assert_eq!(connection.get::<_, Option<String>>("k")?, Some("v".into()));
        assert_eq!(connection.get::<_, Option<String>>("none")?, None);
        let () = connection.mset(&[("a", 1), ("b", 2)])?;
        assert_eq!(
            connection.mget::<_, Vec<Option<i64>>>(&["a", "none", "b"])?,
            [Some(1), None, Some(2)]
        );
        assert_eq!(connection.incr::<_, _, i64>("a", 41)?, 42);
        assert!(connection.expire::<_, bool>("a", 100)?);
        assert_eq!(connection.ttl::<_, i64>("a")?, 100);
        let (old, new): (i64, i64) = redis::pipe().get("a").incr("a", 1).query(&mut connection)?;
        assert_eq!((old, new), (42, 43));
        let error = connection
            .incr::<_, _, i64>("k", 1)
            .expect_err("a text cannot be counted");
        assert_eq!(error.code(), Some("ERR"));
        let found: Vec<String> = connection
            .scan_match::<_, String>("?")?
            .collect::<RedisResult<_>>()?;
        assert_eq!(found.len(), 3, "{found:?}");
        let () = redis::cmd("FLUSHALL").query(&mut connection)?;
    }
    Ok(())
}

/// Many tasks share one connection; each gets its own replies.
#[test]
fn multiplexed() -> RedisResult<()> {
    let server = Server::start(&[]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for protocol in [2, 3] {
        runtime.block_on(async {
            let connection = client(&server, protocol)
                .get_multiplexed_async_connection()
                .await?;
            let tasks = (0..200_i64).map(|number| {
                let mut connection = connection.clone();
                tokio::spawn(async move {
                    let key = format!("task:{number}");
                    let () = connection.set(&key, number).await?;
                    let () = connection.incr("shared", 1).await?;
                    connection.get::<_, i64>(&key).await
                })
            });
            for (number, task) in tasks.collect::<Vec<_>>().into_iter().enumerate() {
                let value = task.await.expect("the task does not panic")?;
                assert_eq!(value, number as i64);
            }
            let mut connection = connection;
            assert_eq!(connection.get::<_, i64>("shared").await?, 200);
            let mut pipe = redis::pipe();
            (0..5_000).for_each(|number| {
                pipe.set(format!("p{number}"), number).ignore();
            });
            let () = pipe.query_async(&mut connection).await?;
            assert_eq!(
                redis::cmd("DBSIZE")
                    .query_async::<i64>(&mut connection)
                    .await?,
                5_201
            );
            let info: redis::Value = redis::cmd("INFO")
                .arg("server")
                .query_async(&mut connection)
                .await?;
            let info = redis::InfoDict::from_redis_value(info)?;
            assert_eq!(info.get::<String>("redis_mode"), Some("standalone".into()));
            redis::cmd("FLUSHALL")
                .query_async::<()>(&mut connection)
                .await
        })?;
    }
    Ok(())
}
