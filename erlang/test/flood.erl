%% Compiled, because an evaluated loop is slower than what it measures.
-module(flood).

-export([send/2, ping/2]).

%% Sends `{msg, 1}` to `{msg, Count}`; the longest time one send took, in microseconds.
send(To, Count) ->
    send(To, 1, Count, 0).

send(_To, N, Count, Longest) when N > Count ->
    Longest;
send(To, N, Count, Longest) ->
    Start = erlang:monotonic_time(microsecond),
    To ! {msg, N},
    send(To, N + 1, Count, max(Longest, erlang:monotonic_time(microsecond) - Start)).

%% Sends `{Self, N}` to a process that returns `{echo, N}`, one after the other, until `{done, ...}` is in the
%% mailbox: how many there were, and the longest time one took, in microseconds.
ping(To, Patience) ->
    ping(To, Patience, 0, 0).

ping(To, Patience, N, Longest) ->
    Start = erlang:monotonic_time(microsecond),
    To ! {self(), N},
    receive {echo, N} -> ok after Patience -> error(no_echo) end,
    Took = max(Longest, erlang:monotonic_time(microsecond) - Start),
    receive {done, What} -> {What, N + 1, Took} after 0 -> ping(To, Patience, N + 1, Took) end.
