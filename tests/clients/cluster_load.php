<?php
// Writes and reads by phpredis's RedisCluster or by Predis's cluster until the input ends: cluster_load.php PORT CLIENT. Any error, and
// any key that is not what was written last, or was written twice, ends it with status 1. `written` counts the rounds.

declare(strict_types=1);

const KEYS = 60;
const SCRIPT = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

[, $port, $name] = $argv;

set_exception_handler(function (Throwable $error): void {
    echo $error, "\n";
    exit(1);
});

function is(mixed $found, mixed $expected, string $key): void
{
    if ($found !== $expected) {
        throw new Exception("$key: " . var_export($found, true) . ', not ' . var_export($expected, true));
    }
}

if ($name === 'phpredis') {
    $cluster = new RedisCluster(null, ["127.0.0.1:$port"], 30, 30);
    $get = fn(string $key) => ($found = $cluster->get($key)) === false ? null : $found;
    $set = fn(string $key, int $value) => $cluster->set($key, (string) $value);
    $evaluate = fn(string $key) => $cluster->eval(SCRIPT, [$key, 1], 1);
} else {
    require '/usr/share/php/Predis/autoload.php';
    $cluster = new Predis\Client(
        ["tcp://127.0.0.1:$port?read_write_timeout=30"],
        ['cluster' => 'redis'],
    );
    $get = fn(string $key) => $cluster->get($key);
    $set = fn(string $key, int $value) => (string) $cluster->set($key, $value) === 'OK';
    $evaluate = fn(string $key) => $cluster->eval(SCRIPT, 1, $key, 1);
}

// What each of its keys goes through, once more each time.
$forms = [
    function (string $key, int $count) use ($get, $set): void {
        is($get($key), $count === 1 ? null : (string) ($count - 1), $key);
        is($set($key, $count), true, $key);
    },
    fn(string $key, int $count) => is($cluster->incr($key), $count, $key),
    fn(string $key, int $count) => is($cluster->rpush($key, ...($name === 'phpredis' ? [(string) $count] : [[$count]])), $count, $key),
    fn(string $key, int $count) => is($evaluate($key), $count, $key),
    fn(string $key, int $count) => is($cluster->hincrby($key, 'field', 1), $count, $key),
];

stream_set_blocking(STDIN, false);
$rounds = 0;
while (!feof(STDIN)) {
    fread(STDIN, 1);
    $index = $rounds % KEYS;
    $forms[$index % count($forms)]("load:$index", intdiv($rounds, KEYS) + 1);
    $cluster->incr('written');
    $rounds += 1;
}
is((int) $get('written'), $rounds, 'written');
