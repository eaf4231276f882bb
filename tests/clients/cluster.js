// ioredis's Cluster and node-redis's on the cluster face of a ring: cluster.js PORT. Each check is a function; all run, those that
// fail are printed, and the exit status says whether any did.
'use strict';

const assert = require('node:assert');
const path = require('node:path');
const { Cluster } = require(path.join(process.env.NODE_PATH, 'ioredis'));
const { createCluster } = require(path.join(process.env.NODE_PATH, '@redis/client'));

const port = Number(process.argv[2]);

const checks = {
  async 'ioredis'() {
    const cluster = new Cluster([{ host: '127.0.0.1', port }]);
    const subscriber = new Cluster([{ host: '127.0.0.1', port }]);
    try {
      for (let number = 0; number < 300; number++) assert.strictEqual(await cluster.set(`key:${number}`, number), 'OK');
      const found = await Promise.all(Array.from({ length: 300 }, (_, number) => cluster.get(`key:${number}`)));
      assert.deepStrictEqual(found, Array.from({ length: 300 }, (_, number) => String(number)));
      assert.strictEqual(cluster.nodes('master').length, 3);
      assert.strictEqual(cluster.nodes('slave').length, 0);
      const sizes = await Promise.all(cluster.nodes('master').map((node) => node.dbsize()));
      assert.strictEqual(sizes.reduce((sum, size) => sum + size), 300);
      assert.ok(sizes.every((size) => size > 0), String(sizes));
      const replies = await cluster.pipeline().set('{t}a', 1).incr('{t}a').get('{t}a').exec();
      assert.deepStrictEqual(replies, [[null, 'OK'], [null, 2], [null, '2']]);
      assert.deepStrictEqual(await cluster.multi().set('{t}b', 1).mget('{t}a', '{t}b').exec(), [[null, 'OK'], [null, ['2', '1']]]);
      assert.strictEqual(await cluster.eval("return redis.call('GET', KEYS[1])", 1, 'key:7'), '7');
      await assert.rejects(cluster.mget('key:1', 'key:2'), /CROSSSLOT/);
      await subscriber.subscribe('channel');
      const heard = new Promise((resolve) => subscriber.on('message', (channel, text) => resolve([channel, text])));
      await cluster.publish('channel', 'x');
      assert.deepStrictEqual(await heard, ['channel', 'x']);
      await Promise.all(cluster.nodes('master').map((node) => node.flushall()));
    } finally {
      cluster.disconnect();
      subscriber.disconnect();
    }
  },

  async 'channels of shards by ioredis'() {
    const cluster = new Cluster([{ host: '127.0.0.1', port }]);
    const subscriber = new Cluster([{ host: '127.0.0.1', port }], { shardedSubscribers: true });
    const heard = new Map();
    subscriber.on('smessage', (channel, text) => heard.get(channel)(text));
    try {
      for (let number = 0; number < 20; number++) {
        const channel = `shard:${number}`;
        const next = new Promise((resolve) => heard.set(channel, resolve));
        await subscriber.ssubscribe(channel);
        assert.strictEqual(await cluster.spublish(channel, number), 1, channel);
        assert.strictEqual(await next, String(number));
      }
    } finally {
      cluster.disconnect();
      subscriber.disconnect();
    }
  },

  async 'channels of shards by node-redis'() {
    const cluster = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${port}` }] });
    cluster.on('error', () => {});
    await cluster.connect();
    try {
      for (let number = 0; number < 20; number++) {
        const channel = `shard:${number}`;
        let heard;
        const next = new Promise((resolve) => (heard = resolve));
        await cluster.sSubscribe(channel, (text) => heard(text));
        assert.strictEqual(await cluster.sPublish(channel, String(number)), 1, channel);
        assert.strictEqual(await next, String(number));
        await cluster.sUnsubscribe(channel);
        assert.strictEqual(await cluster.sPublish(channel, 'x'), 0, channel);
      }
      let heard;
      const next = new Promise((resolve) => (heard = resolve));
      await cluster.subscribe('channel', (text) => heard(text));
      assert.strictEqual(await cluster.publish('channel', 'x'), 1);
      assert.strictEqual(await next, 'x');
    } finally {
      cluster.destroy();
    }
  },

  async 'node-redis in RESP2'() {
    await nodeRedis(2);
  },

  async 'node-redis in RESP3'() {
    await nodeRedis(3);
  },
};

async function nodeRedis(RESP) {
  const cluster = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${port}` }], RESP });
  cluster.on('error', () => {});
  await cluster.connect();
  try {
    assert.strictEqual(cluster.masters.length, 3);
    assert.strictEqual(cluster.slots.filter(Boolean).length, 16384);
    await Promise.all(Array.from({ length: 300 }, (_, number) => cluster.set(`key:${number}`, String(number))));
    for (let number = 0; number < 300; number++) assert.strictEqual(await cluster.get(`key:${number}`), String(number));
    const replies = await cluster.multi().set('{t}a', '1').get('{t}a').exec();
    assert.deepStrictEqual(replies, ['OK', '1']);
  } finally {
    await cluster.close();
  }
}

(async () => {
  let failed = false;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
    } catch (error) {
      failed = true;
      console.log(`FAILED: ${name}: ${error?.stack ?? error}`);
    }
  }
  process.exit(failed ? 1 : 0);
})();
