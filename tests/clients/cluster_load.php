<?php
// Writes and reads by Predis's cluster until the input ends: cluster_load.php PORT. Any error, and any key that is not what was written
// last, or was written twice, ends it with status 1. `written` counts the rounds.

declare(strict_types=1);

const KEYS = 60;
const SCRIPT = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

[, $port] = $argv;

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

require '/usr/share/php/Predis/autoload.php';
$cluster = new Predis\Client(["tcp://127.0.0.1:$port?read_write_timeout=30"], ['cluster' => 'redis']);

// What each of its keys goes through, once more each time.
$forms = [
    function (string $key, int $count) use ($cluster): void {
        is($cluster->get($key), $count === 1 ? null : (string) ($count - 1), $key);
        is((string) $cluster->set($key, $count), 'OK', $key);
    },
    fn(string $key, int $count) => is($cluster->incr($key), $count, $key),
    fn(string $key, int $count) => is($cluster->rpush($key, [$count]), $count, $key),
    fn(string $key, int $count) => is($cluster->eval(SCRIPT, 1, $key, 1), $count, $key),
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
is((int) $cluster->get('written'), $rounds, 'written');
