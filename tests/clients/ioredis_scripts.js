// ioredis against a server: ioredis_scripts.js PORT. Transactions, WATCH and Lua scripts, as applications on ioredis use them.
'use strict';

const assert = require('node:assert');
const Redis = require('ioredis');
const { redis, run } = require('./steps');

const open = [];

function client(options = {}) {
  const each = new Redis({ ...redis, maxRetriesPerRequest: 1, ...options });
  open.push(each);
  return each;
}

// Each step in both protocols, with keys of its own.
function inBoth(steps) {
  const all = {};
  for (const protocol of [2, 3]) {
    for (const [name, step] of Object.entries(steps)) {
      all[`${name}, RESP${protocol}`] = async () => {
        const first = client({ protocol });
        await first.flushall();
        await step(first, (options) => client({ protocol, ...options }));
        open.splice(0).forEach((each) => each.disconnect());
      };
    }
  }
  return all;
}

run(
  inBoth({
    async 'multi: in one go, by single calls, with a callback each'(r) {
      assert.deepStrictEqual(await r.multi().set('k', 1).incr('k').get('k').exec(), [
        [null, 'OK'],
        [null, 2],
        [null, '2'],
      ]);
      assert.strictEqual(await r.multi({ pipeline: false }), 'OK');
      assert.strictEqual(await r.set('k', 5), 'QUEUED');
      assert.strictEqual(await r.incr('k'), 'QUEUED');
      assert.deepStrictEqual(await r.exec(), [
        [null, 'OK'],
        [null, 6],
      ]);
      const commands = [
        ['lpush', 'l', 'a', 'b'],
        ['lrange', 'l', 0, -1],
        ['hset', 'h', 'f', 'v'],
        ['hgetall', 'h'],
      ];
      assert.deepStrictEqual(await r.multi(commands).exec(), [
        [null, 2],
        [null, ['b', 'a']],
        [null, 1],
        [null, { f: 'v' }],
      ]);
    },

    async 'multi: errors in place, errors when queueing, discard'(r) {
      await r.set('text', 'x');
      const answers = await r.multi().set('a', 1).incr('text').set('b', 2).exec();
      assert.strictEqual(answers[1][0].message, 'ERR value is not an integer or out of range');
      assert.deepStrictEqual([answers[0], answers[2]], [[null, 'OK'], [null, 'OK']]);
      await assert.rejects(r.multi().set('c', 1).call('set', 'c').exec(), (error) => {
        assert.strictEqual(error.message, 'EXECABORT Transaction discarded because of previous errors.');
        assert.match(error.previousErrors[0].message, /^ERR wrong number of arguments for 'set' command/);
        return true;
      });
      assert.strictEqual(await r.exists('c'), 0);
      await r.multi({ pipeline: false });
      await r.set('d', 1);
      assert.strictEqual(await r.discard(), 'OK');
      assert.strictEqual(await r.get('d'), null);
    },

    async 'watch: another client changes the key, or another key'(r, other) {
      const o = other();
      await r.watch('seen');
      await o.set('seen', 1);
      assert.strictEqual(await r.multi().set('seen', 2).exec(), null);
      assert.strictEqual(await r.get('seen'), '1');
      await r.watch('seen');
      await o.set('unseen', 1);
      assert.deepStrictEqual(await r.multi().set('seen', 2).exec(), [[null, 'OK']]);
      await r.watch('seen');
      await o.set('seen', 3);
      await r.unwatch();
      assert.deepStrictEqual(await r.multi().get('seen').exec(), [[null, '3']]);
    },

    async 'multi of many: counted by twenty connections at once under watch'(r, other) {
      const connections = Array.from({ length: 20 }, () => other());
      await r.set('count', 0);
      await Promise.all(
        connections.map(async (each) => {
          for (let done = 0; done < 5; ) {
            await each.watch('count');
            const count = Number(await each.get('count'));
            if (await each.multi().set('count', count + 1).exec()) done++;
          }
        }),
      );
      assert.strictEqual(await r.get('count'), '100');
    },

    async 'defineCommand: by number of keys, as the first argument, buffers, in a pipeline, in multi'(r) {
      r.defineCommand('both', { numberOfKeys: 2, lua: 'return {KEYS[1], KEYS[2], ARGV[1], ARGV[2]}' });
      assert.deepStrictEqual(await r.both('k1', 'k2', 'a1', 'a2'), ['k1', 'k2', 'a1', 'a2']);
      assert.deepStrictEqual(await r.bothBuffer('k1', 'k2', Buffer.from([0, 255]), ''), [
        Buffer.from('k1'),
        Buffer.from('k2'),
        Buffer.from([0, 255]),
        Buffer.from(''),
      ]);
      r.defineCommand('any', { lua: 'return {#KEYS, #ARGV}' });
      assert.deepStrictEqual(await r.any(3, 'a', 'b', 'c', 'd'), [3, 1]);
      assert.deepStrictEqual(await r.any(0), [0, 0]);
      assert.deepStrictEqual(await r.pipeline().both('a', 'b', 'c', 'd').any(1, 'x').get('k').exec(), [
        [null, ['a', 'b', 'c', 'd']],
        [null, [1, 0]],
        [null, null],
      ]);
      assert.deepStrictEqual(await r.multi().set('k', 1).both('a', 'b', 'c', 'd').exec(), [
        [null, 'OK'],
        [null, ['a', 'b', 'c', 'd']],
      ]);
    },

    async 'scripts after SCRIPT FLUSH are sent again'(r) {
      r.defineCommand('hello', { numberOfKeys: 1, lua: "return redis.call('incr', KEYS[1])" });
      assert.strictEqual(await r.hello('n'), 1);
      assert.strictEqual(await r.script('FLUSH'), 'OK');
      assert.strictEqual(await r.hello('n'), 2);
      assert.strictEqual(await r.script('FLUSH', 'ASYNC'), 'OK');
      assert.deepStrictEqual(await r.pipeline().hello('n').hello('n').exec(), [[null, 3], [null, 4]]);
      const sha = await r.script('LOAD', 'return ARGV[1]');
      assert.match(sha, /^[0-9a-f]{40}$/);
      assert.deepStrictEqual(await r.script('EXISTS', sha, 'f'.repeat(40)), [1, 0]);
      assert.strictEqual(await r.evalsha(sha, 0, 'x'), 'x');
      await assert.rejects(r.evalsha('f'.repeat(40), 0), /^ReplyError: NOSCRIPT No matching script/);
    },

    async 'what a script returns: types there and back'(r) {
      const is = async (lua, expected, ...args) => assert.deepStrictEqual(await r.eval(lua, ...(args.length ? args : [0])), expected, lua);
      await is('return 42.9', 42);
      await is('return -42.9', -42);
      await is("return '42.9'", '42.9');
      await is('return true', 1);
      await is('return false', null);
      await is('return nil', null);
      await is("return {1, 2, nil, 4}", [1, 2]);
      await is("return {1, {2, {3, 'x'}}}", [1, [2, [3, 'x']]]);
      await is("return {ok = 'FINE'}", 'FINE');
      await is("return redis.status_reply('FINE')", 'FINE');
      await is("return redis.call('ping')", 'PONG');
      await is("return type(redis.call('get', 'none'))", 'boolean');
      await is("return redis.call('ttl', 'none')", -2);
      await is("redis.call('zadd', KEYS[1], 1.5, 'm') return redis.call('zscore', KEYS[1], 'm')", '1.5', 1, 'z');
      await is("return type(redis.call('zscore', KEYS[1], 'm'))", 'string', 1, 'z');
      await is("return redis.call('set', KEYS[1], 'v')['ok']", 'OK', 1, 'k');
      await is("return redis.call('hset', KEYS[1], unpack(ARGV))", 2, 1, 'h', 'a', 1, 'b', 2);
      await is("return redis.call('hgetall', KEYS[1])", ['a', '1', 'b', '2'], 1, 'h');
      await is("return cjson.encode(cjson.decode(ARGV[1]))", '{"a":[1,2.5,"x",null,true]}', 0, '{"a": [1, 2.5, "x", null, true]}');
      await is("return cmsgpack.unpack(cmsgpack.pack({a = 7})).a", 7);
      await is('return bit.band(255, 15)', 15);
      await is("return {struct.unpack('>I2', struct.pack('>I2', 300))}", [300, 3]);
      await is("return redis.sha1hex('')", 'da39a3ee5e6b4b0d3255bfef95601890afd80709');
      await is('return table.getn({1, 2, 3})', 3);
      await is('return redis.replicate_commands() and 1', 1);
      await is("redis.log(redis.LOG_WARNING, 'said by a script') return tostring(redis.LOG_WARNING)", '3');
    },

    async 'errors of scripts'(r) {
      await r.set('text', 'x');
      await assert.rejects(r.eval("return redis.error_reply('MINE own text')", 0), { message: 'MINE own text' });
      await assert.rejects(r.eval("return {err = 'MINE too'}", 0), { message: 'MINE too' });
      await assert.rejects(r.eval("return redis.call('incr', KEYS[1])", 1, 'text'), /ERR value is not an integer or out of range/);
      await assert.rejects(r.eval("return redis.call('lpush', KEYS[1], 1)", 1, 'text'), /WRONGTYPE Operation against a key/);
      assert.strictEqual(
        await r.eval("return redis.pcall('lpush', KEYS[1], 1).err", 1, 'text'),
        'WRONGTYPE Operation against a key holding the wrong kind of value',
      );
      await assert.rejects(r.eval('return nonsense(', 0), /ERR Error compiling script \(new function\): user_script:1:/);
      await assert.rejects(r.eval('return nothing', 0), /Script attempted to access nonexistent global variable 'nothing'/);
      await assert.rejects(r.eval("error('thrown')", 0), /thrown/);
      await assert.rejects(r.eval("redis.call('set', KEYS[1], 'kept') error('after')", 1, 'kept'), /after/);
      assert.strictEqual(await r.get('kept'), 'kept', 'what it wrote stays');
      assert.strictEqual(await r.get('text'), 'x', 'the connection is in step');
    },

    async 'keys that are not declared'(r) {
      const lua = `
        for i = 1, tonumber(ARGV[1]) do redis.call('set', ARGV[2] .. i, i) end
        return #redis.call('keys', ARGV[2] .. '*')`;
      assert.strictEqual(await r.eval(lua, 0, 100, 'undeclared:'), 100);
      assert.strictEqual(await r.get('undeclared:77'), '77');
      assert.strictEqual(await r.eval("return redis.call('dbsize')", 0), 100);
    },

    async 'a burst of EVALSHA from many connections'(r, other) {
      const connections = Array.from({ length: 8 }, () => other());
      const lua = "local n = redis.call('incr', KEYS[1]) redis.call('zadd', KEYS[2], n, n) return n";
      for (const each of connections) each.defineCommand('next', { numberOfKeys: 2, lua });
      const all = await Promise.all(
        connections.flatMap((each) => Array.from({ length: 250 }, () => each.next('counter', 'order'))),
      );
      assert.deepStrictEqual(all.sort((a, b) => a - b), Array.from({ length: 2000 }, (_, i) => i + 1));
      assert.strictEqual(await r.zcard('order'), 2000);
    },
  }),
);
