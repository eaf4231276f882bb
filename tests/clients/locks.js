// Redlock and rate-limiter-flexible against a server: locks.js PORT. Locks of several keys by Lua; counters that expire.
'use strict';

const assert = require('node:assert');
const Redis = require('ioredis');
const { RateLimiterRedis, BurstyRateLimiter, RateLimiterQueue } = require('rate-limiter-flexible');
const { default: Redlock, ResourceLockedError } = require('redlock');
const { redis, run } = require('./steps');

const client = new Redis(redis);

const limiter = (options) => new RateLimiterRedis({ storeClient: client, ...options });
const refusal = (promise) => promise.then(() => assert.fail('not refused'), (refused) => refused);

run({
  async 'Redlock: one holder, several resources, release'() {
    const locks = new Redlock([client], { retryCount: 0 });
    const lock = await locks.acquire(['a', 'b'], 30_000);
    assert.strictEqual(await client.get('a'), lock.value);
    assert.ok((await client.pttl('b')) > 20_000);
    const error = await refusal(locks.acquire(['b', 'c'], 30_000));
    const votes = await error.attempts[0];
    assert.ok([...votes.votesAgainst.values()][0] instanceof ResourceLockedError);
    assert.strictEqual(await client.exists('c'), 0, 'all or nothing');
    await lock.release();
    assert.strictEqual(await client.exists('a', 'b'), 0);
    await (await locks.acquire(['b', 'c'], 30_000)).release();
  },

  async 'Redlock: extends, and not when it is lost'() {
    const locks = new Redlock([client], { retryCount: 0 });
    const lock = await locks.acquire(['d'], 1_000);
    const longer = await lock.extend(60_000);
    assert.ok((await client.pttl('d')) > 30_000);
    await client.set('d', 'of another');
    await refusal(longer.extend(60_000));
    await refusal(longer.release());
    assert.strictEqual(await client.get('d'), 'of another');
  },

  async 'Redlock: waiters take turns, none beside another'() {
    const locks = new Redlock([client], { retryCount: -1, retryDelay: 5, retryJitter: 5 });
    let inside = 0;
    let count = 0;
    const work = () =>
      locks.using(['turn'], 10_000, async () => {
        assert.strictEqual(++inside, 1);
        count = (await client.incr('turns')) && count + 1;
        inside--;
      });
    await Promise.all(Array.from({ length: 20 }, work));
    assert.strictEqual(count, 20);
    assert.strictEqual(await client.get('turns'), '20');
  },

  async 'Redlock: a lock that expires is free again'() {
    const locks = new Redlock([client], { retryCount: -1, retryDelay: 10 });
    const begun = Date.now();
    await locks.acquire(['short'], 100);
    const second = await locks.acquire(['short'], 30_000);
    assert.ok(Date.now() - begun >= 100, 'it was held');
    await second.release();
  },

  async 'rate limiter: consumes, refuses, rewards, deletes'() {
    const limits = limiter({ keyPrefix: 'rl', points: 3, duration: 60 });
    const first = await limits.consume('u');
    assert.deepStrictEqual([first.consumedPoints, first.remainingPoints, first.isFirstInDuration], [1, 2, true]);
    assert.ok(first.msBeforeNext > 50_000 && first.msBeforeNext <= 60_000);
    const second = await limits.consume('u', 2);
    assert.deepStrictEqual([second.consumedPoints, second.remainingPoints, second.isFirstInDuration], [3, 0, false]);
    assert.strictEqual((await refusal(limits.consume('u'))).consumedPoints, 4);
    assert.strictEqual((await limits.reward('u', 2)).consumedPoints, 2);
    assert.strictEqual((await limits.get('u')).consumedPoints, 2);
    assert.strictEqual((await limits.penalty('u')).consumedPoints, 3);
    assert.strictEqual(await limits.delete('u'), true);
    assert.strictEqual(await limits.get('u'), null);
    assert.strictEqual((await limits.set('u', 7, 60)).consumedPoints, 7);
    assert.strictEqual((await refusal(limits.consume('u'))).consumedPoints, 8);
  },

  async 'rate limiter: blocks for a time, many at once'() {
    const blocking = limiter({ keyPrefix: 'block', points: 1, duration: 30, blockDuration: 60 });
    await blocking.consume('u');
    assert.ok((await refusal(blocking.consume('u'))).msBeforeNext > 50_000);
    assert.ok((await client.ttl('block:u')) > 50);
    const many = limiter({ keyPrefix: 'many', points: 50, duration: 60 });
    const outcomes = await Promise.allSettled(Array.from({ length: 200 }, () => many.consume('u')));
    assert.strictEqual(outcomes.filter(({ status }) => status === 'fulfilled').length, 50);
  },

  async 'rate limiter: with a burst, and as a queue'() {
    const bursty = new BurstyRateLimiter(
      limiter({ keyPrefix: 'steady', points: 1, duration: 60 }),
      limiter({ keyPrefix: 'burst', points: 2, duration: 60 }),
    );
    for (let i = 0; i < 3; i++) await bursty.consume('u');
    await refusal(bursty.consume('u'));
    const queue = new RateLimiterQueue(limiter({ keyPrefix: 'queue', points: 2, duration: 1 }));
    const left = await Promise.all([queue.removeTokens(1), queue.removeTokens(1)]);
    assert.deepStrictEqual(left.sort(), [0, 1]);
    assert.strictEqual(await queue.removeTokens(1), 1, 'in the next second');
  },
});
