// node-redis against a server, and its client-side caching: node_redis.js PORT. Each check is a function; all run, those that
// fail are printed, and the exit status says whether any did.
'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const path = require('node:path');
const { createClient, BasicClientSideCache } = require(path.join(process.env.NODE_PATH, '@redis/client'));

const port = Number(process.argv[2]);
const open = [];

async function client(options = {}) {
  const redis = createClient({ socket: { port, host: '127.0.0.1' }, RESP: 3, ...options });
  open.push(redis);
  redis.on('error', (error) => console.log(error));
  await redis.connect();
  return redis;
}

const checks = {
  async 'RESP2 and RESP3'() {
    for (const RESP of [2, 3]) {
      const redis = await client({ RESP });
      assert.strictEqual(await redis.ping(), 'PONG');
      assert.strictEqual(await redis.set('k', 'v'), 'OK');
      assert.strictEqual(await redis.get('k'), 'v');
      await redis.hSet('h', { f: '1', g: '2' });
      assert.deepEqual({ ...(await redis.hGetAll('h')) }, { f: '1', g: '2' });
      assert.deepEqual(await redis.multi().incr('n').get('none').exec(), [RESP - 1, null]);
      await assert.rejects(redis.incr('k'), /not an integer/);
    }
  },

  async 'copies are used until the key changes'() {
    const cache = new BasicClientSideCache({ ttl: 0, maxEntries: 1000, evictPolicy: 'LRU' });
    const [redis, other] = [await client({ clientSideCache: cache }), await client()];
    await other.set('k', 'first');
    for (let i = 0; i < 100; i++) assert.strictEqual(await redis.get('k'), 'first');
    assert.strictEqual(cache.stats().hitCount, 99);
    assert.strictEqual(cache.stats().missCount, 1);
    for (let i = 0; i < 200; i++) {
      const told = once(cache, 'invalidate');
      await other.set('k', String(i));
      assert.strictEqual(String((await told)[0]), 'k');
      assert.strictEqual(await redis.get('k'), String(i));
    }
    assert.strictEqual(cache.stats().missCount, 201);
  },

  async 'expiry, deletion, flush'() {
    const cache = new BasicClientSideCache({ ttl: 0, maxEntries: 1000, evictPolicy: 'LRU' });
    const [redis, other] = [await client({ clientSideCache: cache }), await client()];
    const changes = [
      () => other.pExpire('k', 1),
      () => other.del('k'),
      () => other.hSet('h', 'f', '2'),
      () => other.flushAll(),
    ];
    for (const change of changes) {
      await other.set('k', 'v', { expiration: { type: 'EX', value: 100 } });
      await other.hSet('h', 'f', '1');
      // What the two changes above are told as has come when the answer to PING has.
      await redis.ping();
      assert.strictEqual(await redis.get('k'), 'v');
      assert.strictEqual(await redis.hGet('h', 'f'), '1');
      const told = once(cache, 'invalidate');
      await change();
      await told;
    }
    assert.strictEqual(await redis.get('k'), null);
    assert.strictEqual(await redis.hGet('h', 'f'), null);
  },

  async 'many keys at once'() {
    const cache = new BasicClientSideCache({ ttl: 0, maxEntries: 10000, evictPolicy: 'LRU' });
    const [redis, other] = [await client({ clientSideCache: cache }), await client()];
    const keys = Array.from({ length: 2000 }, (_, i) => `many:${i}`);
    await Promise.all(keys.map((key) => other.set(key, 'old')));
    await Promise.all(keys.map((key) => redis.get(key)));
    const left = new Set(keys);
    const told = new Promise((resolve) => {
      cache.on('invalidate', (key) => {
        left.delete(String(key));
        if (left.size === 0) resolve();
      });
    });
    await Promise.all(keys.map((key) => other.set(key, 'new')));
    await told;
    const values = await Promise.all(keys.map((key) => redis.get(key)));
    assert.ok(values.every((value) => value === 'new'));
  },
};

async function main() {
  await (await client()).flushAll();
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
    } catch (error) {
      failed++;
      console.log(`FAILED ${name}\n${error.stack}`);
    }
    open.splice(0).forEach((redis) => redis.destroy());
  }
  console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

main().catch((error) => {
  console.log(error);
  process.exit(1);
});
