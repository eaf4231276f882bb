// ioredis against a server: ioredis.js PORT. Each check is a function; all run, those that fail are printed, and the exit
// status says whether any did.
'use strict';

const assert = require('node:assert');
const path = require('node:path');
const Redis = require(path.join(process.env.NODE_PATH, 'ioredis'));

const port = Number(process.argv[2]);
const open = [];

function client(options = {}) {
  const redis = new Redis({ port, host: '127.0.0.1', maxRetriesPerRequest: 1, ...options });
  open.push(redis);
  return redis;
}

const checks = {
  async 'becomes ready, by INFO'() {
    const redis = client();
    await new Promise((resolve, reject) => {
      redis.on('ready', resolve);
      redis.on('error', reject);
    });
    assert.strictEqual(await redis.ping(), 'PONG');
    assert.strictEqual(await redis.echo('x'), 'x');
    assert.match(await redis.info('server'), /\r\nredis_version:7\./);
  },

  async 'strings'() {
    const redis = client();
    assert.strictEqual(await redis.set('k', 'v', 'EX', 100), 'OK');
    assert.strictEqual(await redis.get('k'), 'v');
    assert.strictEqual(await redis.set('k', 'w', 'NX'), null);
    assert.strictEqual(await redis.getset('k', 'w'), 'v');
    assert.strictEqual(await redis.get('none'), null);
    assert.deepStrictEqual(await redis.mget('k', 'none'), ['w', null]);
    assert.strictEqual(await redis.incrby('n', 42), 42);
    assert.strictEqual(await redis.incrbyfloat('n', 0.5), '42.5');
    assert.deepStrictEqual(await redis.getBuffer('k'), Buffer.from('w'));
    const bytes = Buffer.from([0, 255, 13, 10]);
    await redis.set(bytes, bytes);
    assert.deepStrictEqual(await redis.getBuffer(bytes), bytes);
    assert.strictEqual(await redis.mset(new Map([['a', 1], ['b', 2]])), 'OK');
    assert.strictEqual(await redis.getdel('a'), '1');
  },

  async 'lists'() {
    const redis = client();
    await redis.del('l', 'm');
    assert.strictEqual(await redis.rpush('l', 'a', 1, 'b'), 3);
    assert.strictEqual(await redis.lpush('l', 'first'), 4);
    assert.deepStrictEqual(await redis.lrange('l', 0, -1), ['first', 'a', '1', 'b']);
    assert.strictEqual(await redis.lindex('l', 7), null);
    assert.strictEqual(await redis.linsert('l', 'BEFORE', 'a', 'x'), 5);
    assert.deepStrictEqual(await redis.lpos('l', 'a', 'COUNT', 0), [2]);
    assert.strictEqual(await redis.lrem('l', 1, 'x'), 1);
    assert.deepStrictEqual(await redis.lpop('l', 2), ['first', 'a']);
    assert.strictEqual(await redis.lpop('none'), null);
    assert.strictEqual(await redis.lmove('l', 'm', 'LEFT', 'RIGHT'), '1');
    assert.deepStrictEqual(await redis.lmpop(2, 'none', 'm', 'LEFT'), ['m', ['1']]);
    assert.strictEqual(await redis.blpop('none', 0.01), null);
    assert.deepStrictEqual(await redis.blpop('none', 'l', 0), ['l', 'b']);
    // What others send on other connections reaches the one that waits; so do its own later commands, afterwards.
    const waiting = client();
    const job = waiting.blmove('jobs', 'done', 'LEFT', 'RIGHT', 0);
    const after = waiting.llen('done');
    await redis.rpush('jobs', 'one');
    assert.strictEqual(await job, 'one');
    assert.strictEqual(await after, 1);
    await redis.rpush('long', ...Array.from({ length: 3000 }, (_, i) => i));
    assert.strictEqual((await redis.lrange('long', 0, -1)).length, 3000);
    assert.strictEqual(await redis.del('done', 'long'), 2);
  },

  async 'sets'() {
    const redis = client();
    await redis.del('s', 't', 'u');
    assert.strictEqual(await redis.sadd('s', 'a', 1, 2, 2), 3);
    assert.strictEqual(await redis.scard('s'), 3);
    assert.deepStrictEqual([...(await redis.smembers('s'))].sort(), ['1', '2', 'a']);
    assert.deepStrictEqual([...(await redis.smembers('none'))], []);
    assert.deepStrictEqual(await redis.smismember('s', 'a', 'x'), [1, 0]);
    await redis.sadd('t', 1, 2, 3);
    assert.deepStrictEqual([...(await redis.sinter('s', 't'))].sort(), ['1', '2']);
    assert.deepStrictEqual([...(await redis.sdiff('s', 't'))], ['a']);
    assert.strictEqual(await redis.sunionstore('u', 's', 't'), 4);
    assert.strictEqual(await redis.sintercard(2, 's', 't', 'LIMIT', 1), 1);
    assert.strictEqual(await redis.smove('t', 's', 3), 1);
    assert.strictEqual((await redis.srandmember('s', -7)).length, 7);
    assert.deepStrictEqual([...(await redis.spop('t', 5))].sort(), ['1', '2']);
    assert.strictEqual(await redis.spop('t'), null);
    await redis.sadd('s', ...Array.from({ length: 3000 }, (_, i) => `m${i}`));
    const found = new Set();
    for await (const members of redis.sscanStream('s', { match: 'm*', count: 50 })) members.forEach((member) => found.add(member));
    assert.strictEqual(found.size, 3000);
    assert.strictEqual(await redis.del('s', 'u'), 2);
  },

  async 'pipelines'() {
    const redis = client();
    const pipeline = redis.pipeline();
    for (let i = 0; i < 5000; i++) pipeline.set(`p${i}`, i);
    for (let i = 0; i < 5000; i++) pipeline.get(`p${i}`);
    const answers = await pipeline.exec();
    assert.strictEqual(answers.length, 10000);
    answers.forEach(([error], i) => assert.strictEqual(error, null, `answer ${i}`));
    assert.strictEqual(answers[9999][1], '4999');
    const mixed = await redis.pipeline().set('t', 'x').incr('t').get('t').exec();
    assert.match(mixed[1][0].message, /not an integer/);
    assert.strictEqual(mixed[2][1], 'x');
  },

  async 'automatic pipelining'() {
    const redis = client({ enableAutoPipelining: true });
    await redis.ping();
    const answers = await Promise.all(Array.from({ length: 2000 }, (_, i) => redis.set(`auto${i}`, i)));
    assert.ok(answers.every((answer) => answer === 'OK'));
    const values = await Promise.all(Array.from({ length: 2000 }, (_, i) => redis.get(`auto${i}`)));
    values.forEach((value, i) => assert.strictEqual(value, String(i)));
  },

  async 'connection names and databases'() {
    const redis = client({ connectionName: 'worker', db: 3 });
    assert.strictEqual(await redis.client('GETNAME'), 'worker');
    const line = String(await redis.client('INFO'));
    assert.match(line, / db=3 /);
    // The oracle is 7.0, which does not know CLIENT SETINFO yet.
    if (process.env.QUOIT_TEST_SERVER !== 'redis') assert.match(line, / lib-name=ioredis/);
    await redis.set('here', 1);
    assert.strictEqual(await client().exists('here'), 0);
    assert.strictEqual(await redis.select(0), 'OK');
  },

  async 'scan streams'() {
    const redis = client({ db: 4 });
    const pipeline = redis.pipeline();
    for (let i = 0; i < 1000; i++) pipeline.set(`s:${i}`, i);
    await pipeline.exec();
    const found = new Set();
    for await (const keys of redis.scanStream({ match: 's:*', count: 33 })) keys.forEach((key) => found.add(key));
    assert.strictEqual(found.size, 1000);
  },

  async 'errors keep the connection in step'() {
    const redis = client();
    await redis.set('text', 'x');
    await assert.rejects(redis.incr('text'), /ERR value is not an integer or out of range/);
    await assert.rejects(redis.call('NOTHING'), /ERR unknown command/);
    assert.strictEqual(await redis.get('text'), 'x');
  },

  async 'large values'() {
    const redis = client();
    const value = Buffer.alloc(8 * 1024 * 1024, 'abc');
    await redis.set('large', value);
    assert.ok(value.equals(await redis.getBuffer('large')));
    await redis.del('large');
  },

  async 'key prefixes'() {
    const redis = client({ keyPrefix: 'app:' });
    await redis.mset('a', 1, 'b', 2);
    assert.strictEqual(await client().get('app:b'), '2');
    assert.strictEqual(await redis.del('a', 'b'), 2);
  },

  async 'RESP2, asked for'() {
    const redis = client({ protocol: 2 });
    assert.strictEqual(await redis.set('two', '2'), 'OK');
    assert.deepStrictEqual(await redis.config('GET', 'maxmemory-policy'), ['maxmemory-policy', 'noeviction']);
  },

  async 'MONITOR'() {
    const redis = client();
    const monitor = await redis.monitor();
    open.push(monitor);
    const seen = new Promise((resolve) => {
      monitor.on('monitor', (time, args, source, database) => {
        if (args[0].toLowerCase() === 'set') resolve({ args, database });
      });
    });
    await client().set('seen', 'by monitor');
    const { args, database } = await seen;
    assert.deepStrictEqual(args.slice(1), ['seen', 'by monitor']);
    assert.strictEqual(database, '0');
  },

  async 'messages'() {
    for (const protocol of [2, 3]) {
      const subscriber = client({ protocol });
      assert.strictEqual(await subscriber.subscribe('news', 'other'), 2);
      assert.strictEqual(await subscriber.psubscribe('n?ws'), 3);
      const seen = new Promise((resolve) => {
        const all = [];
        subscriber.on('message', (channel, message) => all.push([channel, message]));
        subscriber.on('pmessage', (pattern, channel, message) => {
          all.push([pattern, channel, message]);
          if (message === 'two') resolve(all);
        });
      });
      assert.strictEqual(await client().publish('news', 'one'), 2);
      assert.deepStrictEqual(await client().multi().publish('news', 'two').exec(), [[null, 2]]);
      assert.deepStrictEqual(await seen, [
        ['news', 'one'], ['n?ws', 'news', 'one'], ['news', 'two'], ['n?ws', 'news', 'two'],
      ]);
      if (protocol === 3) assert.strictEqual(await subscriber.set('beside', 'messages'), 'OK');
      assert.strictEqual(await subscriber.unsubscribe('news', 'other'), 1);
      assert.strictEqual(await subscriber.punsubscribe('n?ws'), 0);
      assert.strictEqual(await subscriber.get('none'), null);
    }
  },
};

async function main() {
  await client().flushall();
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
    } catch (error) {
      failed++;
      console.log(`FAILED ${name}\n${error.stack}`);
    }
    open.splice(0).forEach((redis) => redis.disconnect());
  }
  console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

main().catch((error) => {
  console.log(error);
  process.exit(1);
});
