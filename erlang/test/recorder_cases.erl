%% What is recorded: the cases, each one a file of `integration/trace`.
%%
%% A case is a function that says, step by step, what happens to the scope; each step returns when the
%% engine has done what it does because of it. In the two walks chance says what happens, see
%% recorder_walk.
%%
%% Where a map has several keys they're no atoms: their order in a map is that of their creation.
-module(recorder_cases).

-export([cases/0, about/1, play/1]).

-import(recorder, [start/2, up_before/1, up/1, down/2, puppets/2, kill/1, kill/2]).
-import(recorder, [say/1, say/2, say_cast/1, update/1, update/2, subscribe/2, unsubscribe/2, call/2]).

cases() ->
    [pg_exchange, pg_version_0, pg_corrected, pg_local, pg_death, pg_unknown_leave, pg_order, pg_ends,
     pg_restart,     pg_subscribers, pg_standalone, pg_walk,
     names_exchange, names_lower, names_updates, names_again, names_order, names_unchanged, names_ends,
     names_subscribers, names_standalone, names_versions, names_walk].

about(pg_exchange) -> "% Two scopes of OTP 29 meet, and what they own then changes.";
about(pg_version_0) -> "% A peer that speaks as before OTP 29, and one of OTP 29 beside it.";
about(pg_corrected) -> "% A peer that says hello in the short form and then sends local data of version 1.";
about(pg_local) -> "% Members of our own join and leave, with no peer, one, and three of both versions.";
about(pg_death) -> "% Members of our own end, in one group and in many, joined once and twice.";
about(pg_unknown_leave) -> "% Processes leave groups they aren't in.";
about(pg_order) -> "% Updates of strangers and updates before local data; local data before a hello.";
about(pg_ends) -> "% Peers end, connections end, and all come back.";
about(pg_restart) -> "% A scope restarts, and the new one is here before the old one is seen to be gone.";
about(pg_subscribers) -> "% Subscribers to the scope and to groups, on our node and another.";
about(pg_standalone) -> "% A scope that stands alone.";
about(pg_walk) -> "% Two hundred steps at random, of peers that keep to the protocol.";
about(names_exchange) -> "% Format 2: peers of the same, a lower and a higher version.";
about(names_lower) -> "% Format 1: peers of the same and of higher versions.";
about(names_updates) -> "% Format 2: own updates with no peer, one, and three of three versions.";
about(names_again) -> "% Local data again and again; a second hello, also with another version.";
about(names_order) -> "% Updates of strangers and updates before local data; local data before a hello.";
about(names_unchanged) -> "% Updates that change nothing or not all they say.";
about(names_ends) -> "% Peers end, connections end, and all come back.";
about(names_subscribers) -> "% Subscribers to all and to one node, on our node and another.";
about(names_standalone) -> "% A scope that stands alone.";
about(names_versions) -> "% Versions that are atoms, tuples, strings and maps.";
about(names_walk) -> "% Two hundred steps at random, of peers that keep to the protocol.".

play(pg_exchange) ->
    start(pg, #{}),
    [B, Mb1, Mb2] = puppets(b, 3),
    [M1, M2, S] = puppets(a, 3),
    {_, #{}} = subscribe(S, scope),
    up(b),
    say({discover, B, 1}),
    say_cast({local_data, B, 1, #{}}),
    update([{workers, [M1], []}]),
    update([{workers, [M2, M1], []}]),
    say({update, B, [{workers, [Mb1], []}]}),
    say({update, B, [{<<"more">>, [Mb1, Mb2], []}]}),
    say({update, B, [{workers, [], [Mb1]}, {<<"more">>, [], [Mb1]}]}),
    [C, Mc] = puppets(c, 2),
    up(c),
    say({discover, C, 1}),
    say_cast({local_data, C, 1, #{workers => [Mc], {g, 1} => [Mc, Mc]}}),
    update([{workers, [], [M1]}]),
    %% Nothing but the difference to what was known before.
    say_cast({local_data, C, 1, #{workers => [Mc, Mc], {g, 2} => [Mc]}}),
    say_cast({local_data, C, 1, #{workers => [Mc, Mc], {g, 2} => [Mc]}}),
    say({discover, B, 1});
play(pg_version_0) ->
    start(pg, #{}),
    [B, Mb1, Mb2] = puppets(b, 3),
    [M1, M2, S] = puppets(a, 3),
    subscribe(S, scope),
    update([{one, [M1], []}]),
    update([{{two}, [M1, M2, M2], []}]),
    up(b),
    say({discover, B}),
    say_cast({sync, B, [{one, [Mb1]}, {3, [Mb1, Mb2]}]}),
    say({join, B, one, Mb2}),
    say({join, B, 4, [Mb1, Mb2, Mb2]}),
    say({leave, B, Mb1, [one, 3]}),
    say({leave, B, [Mb2, Mb2], [4]}),
    say({sync, B, [{one, [Mb1]}]}),
    update([{one, [M2], []}]),
    update([{one, [], [M1]}]),
    update([{{two}, [], [M2, M2]}]),
    update([{{two}, [], [M1]}, {one, [], [M2]}, {five, [M1, M2], []}]),
    say({discover, B}),
    [C] = puppets(c, 1),
    up(c),
    say({discover, C, 1}),
    say_cast({local_data, C, 1, #{}}),
    update([{five, [], [M1]}]),
    update([{six, [M1, M2], []}]);
play(pg_corrected) ->
    start(pg, #{}),
    [B, Mb] = puppets(b, 2),
    [M1, M2] = puppets(a, 2),
    up(b),
    say({discover, B}),
    say_cast({sync, B, [{g, [Mb]}]}),
    update([{g, [M1], []}]),
    say_cast({local_data, B, 1, #{g => [Mb]}}),
    update([{g, [M2], []}]),
    update([{g, [], [M1]}]),
    say({update, B, [{g, [], [Mb]}]}),
    say({discover, B, 1}),
    update([{{h}, [M2], []}]);
play(pg_local) ->
    start(pg, #{}),
    [M1, M2, M3, S] = puppets(a, 4),
    subscribe(S, scope),
    update([{g, [M1], []}]),
    update([{g, [M1, M2], []}]),
    update([{g, [], [M1]}]),
    [B] = puppets(b, 1),
    up(b),
    say({discover, B, 1}),
    say_cast({local_data, B, 1, #{}}),
    update([{g, [M3], []}]),
    update([{{h}, [M3, M3], []}]),
    [C] = puppets(c, 1),
    up(c),
    say({discover, C}),
    say_cast({sync, C, []}),
    [D] = puppets(d, 1),
    up(d),
    say({discover, D, 1}),
    say_cast({local_data, D, 1, #{}}),
    update([{g, [M2], []}]),
    update([{{h}, [], [M3]}]),
    update([{{h}, [], [M3]}]),
    update([{g, [], [M1, M2]}]),
    update([{g, [], [M2]}, {{h}, [M1], []}]),
    update([{g, [], [M3]}]),
    update([]);
play(pg_death) ->
    start(pg, #{}),
    [M1, M2, M3, M4, S] = puppets(a, 5),
    subscribe(S, scope),
    update([{1, [M1, M2], []}]),
    update([{2, [M2], []}]),
    update([{1, [M2, M3], []}]),
    update([{3, [M2, M3], []}]),
    update([{3, [M2], []}]),
    [B, C] = [B1 || N <- [b, c], B1 <- puppets(N, 1)],
    up(b),
    say({discover, B, 1}),
    say_cast({local_data, B, 1, #{}}),
    up(c),
    say({discover, C}),
    say_cast({sync, C, []}),
    kill(M1),
    kill(M3),
    kill(M2),
    %% One that joins again after it left has one monitor again.
    update([{1, [M4], []}]),
    update([{1, [], [M4]}]),
    update([{1, [M4], []}]),
    kill(M4),
    %% One that is gone already.
    update([{1, [M1], []}], 1);
play(pg_unknown_leave) ->
    start(pg, #{}),
    [B, Mb1, Mb2] = puppets(b, 3),
    [M1, M2, S, T] = puppets(a, 4),
    subscribe(S, scope),
    up(b),
    say({discover, B, 1}),
    say_cast({local_data, B, 1, #{}}),
    say({update, B, [{g, [], [Mb1]}]}),
    subscribe(T, scope),
    say({update, B, [{g, [Mb1], []}]}),
    say({update, B, [{g, [], [Mb1, Mb2]}]}),
    say({update, B, [{{h}, [Mb2], []}, {g, [], [Mb1]}]}),
    subscribe(T, {group, g}),
    update([{own, [], [M1]}]),
    %% It's told to peers, too.
    say({discover, B, 1}),
    up(c),
    [C] = puppets(c, 1),
    say({discover, C}),
    say_cast({sync, C, []}),
    update([{own, [M1], []}]),
    update([{own, [], [M2]}]),
    update([{own, [], [M1, M2]}]);
play(pg_order) ->
    start(pg, #{}),
    [B, Mb] = puppets(b, 2),
    [C, Mc] = puppets(c, 2),
    [D, Md] = puppets(d, 2),
    [M1, M2, S] = puppets(a, 3),
    subscribe(S, scope),
    [up(Node) || Node <- [b, c, d]],
    %% A stranger's words.
    say({update, B, [{g, [Mb], []}]}),
    say({join, B, g, Mb}),
    say({leave, B, Mb, [g]}),
    %% Before its local data.
    say({discover, B, 1}),
    say({update, B, [{g, [Mb], []}]}),
    say_cast({local_data, B, 1, #{g => [Mb, Mb], {h} => [Mb]}}),
    say({discover, C}),
    say({join, C, g, Mc}),
    say({join, C, {k}, Mc}),
    say({leave, C, Mc, [{k}]}),
    say_cast({sync, C, [{g, [Mc]}]}),
    %% Local data first. It's watched, but hasn't asked for ours.
    say_cast({local_data, D, 1, #{g => [Md]}}),
    update([{g, [M1], []}]),
    say({update, D, [{g, [], [Md]}]}),
    say({discover, D, 1}),
    update([{g, [M2], []}]);
play(pg_ends) ->
    start(pg, #{}),
    [B1, B2, Mb] = puppets(b, 3),
    [C1, Mc] = puppets(c, 2),
    [M1, M2, S] = puppets(a, 3),
    subscribe(S, scope),
    update([{g, [M1], []}]),
    up(b),
    up(c),
    say({discover, B1, 1}),
    say_cast({local_data, B1, 1, #{g => [Mb], {h} => [Mb, Mb]}}),
    say({discover, C1}),
    say_cast({sync, C1, [{g, [Mc]}]}),
    kill(B1),
    update([{g, [M2], []}]),
    say({update, B1, [{{h}, [Mb], []}]}),
    say({discover, B2, 1}),
    say_cast({local_data, B2, 1, #{{h} => [Mb]}}),
    down(b, 1),
    down(c, 1),
    update([{g, [], [M2]}]),
    up(b),
    say({discover, B2, 1}),
    say_cast({local_data, B2, 1, #{{h} => [Mb], {i} => [Mb]}}),
    up(c),
    say({discover, C1}),
    say_cast({sync, C1, [{g, [Mc]}]}),
    update([{g, [M2], []}]),
    %% One that is gone before it's known.
    say({discover, B1, 1}, 1);
play(pg_restart) ->
    start(pg, #{}),
    [B1, B2, Mb] = puppets(b, 3),
    [M, S] = puppets(a, 2),
    subscribe(S, scope),
    subscribe(S, {group, 2}),
    up(b),
    say({discover, B1, 1}),
    say_cast({local_data, B1, 1, #{1 => [Mb], 2 => [Mb, Mb]}}),
    say({discover, B2, 1}),
    update([{1, [M], []}]),
    say_cast({local_data, B2, 1, #{2 => [Mb], 3 => [Mb]}}),
    say({update, B2, [{4, [Mb], []}, {3, [], [Mb]}]}),
    %% A last word of the old one, who may have been slow.
    say({update, B1, [{5, [Mb], []}]}),
    kill(B1),
    say({update, B2, [{5, [Mb], []}]});
play(pg_subscribers) ->
    start(pg, #{}),
    [B, Mb, Sb] = puppets(b, 3),
    [M, S1, S2, S3] = puppets(a, 4),
    {R1, #{}} = subscribe(S1, scope),
    {R2, []} = subscribe(S2, {group, g}),
    update([{g, [M], []}]),
    update([{{h}, [M], []}]),
    {R3, #{g := [M], {h} := [M]}} = subscribe(S1, scope),
    up(b),
    {R4, [M]} = subscribe(Sb, {group, {h}}),
    say({discover, B, 1}),
    say_cast({local_data, B, 1, #{g => [Mb], {h} => [Mb]}}),
    ok = unsubscribe(S2, R2),
    ok = unsubscribe(S2, R2),
    update([{g, [M], []}]),
    ok = unsubscribe(S1, R1),
    update([{{h}, [M], []}]),
    subscribe(S3, {group, g}),
    subscribe(S3, {group, none}),
    kill(S3, 2),
    update([{g, [], [M]}]),
    kill(Sb),
    ok = unsubscribe(S1, R4),
    update([{{h}, [], [M]}]),
    ok = unsubscribe(S1, R3),
    update([{g, [], [M]}]);
play(pg_standalone) ->
    up_before(b),
    start(pg, #{standalone => true}),
    [B, Mb] = puppets(b, 2),
    [M, S] = puppets(a, 2),
    subscribe(S, scope),
    say({discover, B, 1}),
    say({discover, B}),
    update([{g, [M], []}]),
    %% Local data isn't refused.
    say_cast({local_data, B, 1, #{g => [Mb]}}),
    say({update, B, [{{h}, [Mb], []}]}),
    update([{g, [], [M]}]),
    up_before(c),
    kill(B);
play(pg_walk) ->
    start(pg, #{}),
    recorder_walk:walk(pg_walk, pg);
play(names_exchange) ->
    up_before(b),
    start_names(2, 2, #{}),
    [S] = puppets(a, 1),
    [B] = puppets(b, 1),
    subscribe(S, all),
    update([{set, 1, 10}, {set, <<"two">>, 20}]),
    say({discover, B, 2}),
    say_cast({local_data, B, 2, #{1 => 1, x => 5}}),
    say({update, B, [{set, 2, 7}, {drop, x}]}),
    up(c),
    [C] = puppets(c, 1),
    say({discover, C, 1}),
    %% As OTP 29 labels its data: with the version of whom it's for.
    say_cast({local_data, C, 2, [c1, c2]}),
    say({update, C, [{remove, c1}, {add, c3}]}),
    up(d),
    [D] = puppets(d, 1),
    say({discover, D, 3}),
    say_cast({local_data, D, 2, #{}}),
    update([{set, <<"two">>, 21}]),
    update([{set, three, 1}, {drop, 1}]),
    say({update, D, [{set, 4, 4}]}),
    say({update, C, [{set, c4, 1}]});
play(names_lower) ->
    start_names(1, 1, #{}),
    [S] = puppets(a, 1),
    subscribe(S, all),
    update([{add, 1}]),
    up(b),
    [B] = puppets(b, 1),
    say({discover, B, 1}),
    say_cast({local_data, B, 1, [1, 2]}),
    update([{add, 2}]),
    up(c),
    [C] = puppets(c, 1),
    say({discover, C, 2}),
    say_cast({local_data, C, 1, [c]}),
    up(d),
    [D] = puppets(d, 1),
    say({discover, D, 9}),
    say_cast({local_data, D, 1, []}),
    update([{add, 3}, {remove, 1}]),
    say({update, C, [{add, 4}, {remove, c}]}),
    say({update, D, [{add, d}]});
play(names_updates) ->
    start_names(2, 2, #{}),
    update([{set, 1, 1}]),
    update([{set, 1, 2}, {set, 2, 1}]),
    up(b),
    [B] = puppets(b, 1),
    say({discover, B, 1}),
    update([{set, 3, 3}]),
    say_cast({local_data, B, 2, []}),
    update([{set, 4, 4}]),
    up(c),
    up(d),
    [C, D] = [P || N <- [c, d], P <- puppets(N, 1)],
    say({discover, C, 2}),
    say_cast({local_data, C, 2, #{}}),
    say({discover, D, 7}),
    say_cast({local_data, D, 2, #{}}),
    update([{set, 5, 5}]),
    update([{drop, 1}, {drop, 2}, {set, 6, 6}]),
    %% On behalf of a process elsewhere.
    [Caller] = puppets(c, 1),
    ok = call(Caller, {update, [{set, 7, 7}]});
play(names_again) ->
    start_names(2, 2, #{}),
    [S] = puppets(a, 1),
    subscribe(S, all),
    update([{set, 1, 1}]),
    up(b),
    [B] = puppets(b, 1),
    say({discover, B, 2}),
    say_cast({local_data, B, 2, #{1 => 1, 2 => 2}}),
    say_cast({local_data, B, 2, #{1 => 1, 2 => 2}}),
    say_cast({local_data, B, 2, #{2 => 3, 3 => 3}}),
    say({local_data, B, 2, #{}}),
    say_cast({local_data, B, 2, #{1 => 1}}),
    say({discover, B, 2}),
    update([{set, 2, 2}]),
    %% It says another version than before: an upgrade that kept its pid, so to speak.
    say({discover, B, 1}),
    update([{set, 3, 3}]),
    say({discover, B, 3}),
    update([{drop, 3}]),
    say_cast({discover, B, 2}),
    say_cast({update, B, [{drop, 1}]}),
    update([{drop, 2}]);
play(names_order) ->
    start_names(2, 2, #{}),
    [S] = puppets(a, 1),
    subscribe(S, all),
    [up(Node) || Node <- [b, c, d]],
    [B, C, D] = [P || N <- [b, c, d], P <- puppets(N, 1)],
    %% A stranger's words.
    say({update, B, [{set, 1, 1}]}),
    %% Before its local data.
    say({discover, B, 2}),
    say({update, B, [{set, 1, 1}]}),
    say({update, B, [{set, 2, 2}, {drop, 1}]}),
    say_cast({local_data, B, 2, #{2 => 2, 3 => 3}}),
    say({discover, C, 1}),
    say({update, C, [{add, 1}]}),
    say_cast({local_data, C, 2, [1]}),
    %% Local data first. It's watched, but hasn't asked for ours.
    say_cast({local_data, D, 2, #{1 => 1}}),
    update([{set, 1, 1}]),
    say({update, D, [{drop, 1}]}),
    say({discover, D, 2}),
    update([{set, 2, 2}]);
play(names_unchanged) ->
    start_names(2, 2, #{}),
    [S] = puppets(a, 1),
    subscribe(S, all),
    [up(Node) || Node <- [b, c]],
    [B, C] = [P || N <- [b, c], P <- puppets(N, 1)],
    say({discover, B, 2}),
    say_cast({local_data, B, 2, #{1 => 1}}),
    say({discover, C, 1}),
    say_cast({local_data, C, 2, []}),
    update([{drop, 1}]),
    update([{set, 1, 1}]),
    update([{set, 1, 1}]),
    update([{set, 1, 1}, {set, 2, 2}, {drop, 3}]),
    say({update, B, [{set, 1, 1}]}),
    say({update, B, [{drop, 2}]}),
    say({update, B, [{drop, 2}, {drop, 1}]}),
    say({update, C, [{remove, 1}]}),
    update([]);
play(names_ends) ->
    start_names(2, 2, #{}),
    [S] = puppets(a, 1),
    subscribe(S, all),
    up(b),
    up(c),
    [B1, B2] = puppets(b, 2),
    [C] = puppets(c, 1),
    say({discover, B1, 2}),
    say_cast({local_data, B1, 2, #{1 => 1, 2 => 2}}),
    say({discover, C, 1}),
    say_cast({local_data, C, 2, [1]}),
    kill(B1),
    update([{set, 1, 1}]),
    say({update, B1, [{set, 3, 3}]}),
    say({discover, B2, 2}),
    say_cast({local_data, B2, 2, #{1 => 1}}),
    down(b, 1),
    down(c, 1),
    update([{set, 2, 2}]),
    up(b),
    say({discover, B2, 2}),
    say_cast({local_data, B2, 2, #{1 => 1, 5 => 5}}),
    up(c),
    %% Back as another version.
    say({discover, C, 2}),
    say_cast({local_data, C, 2, #{1 => 9}}),
    update([{drop, 1}]),
    say({discover, B1, 2}, 1);
play(names_subscribers) ->
    start_names(2, 2, #{}),
    [S1, S2, S3] = puppets(a, 3),
    up(b),
    Us = node(),
    There = node(hd(puppets(b, 1))),
    [B, Sb] = puppets(b, 2),
    {R1, #{}} = subscribe(S1, all),
    {R2, []} = subscribe(S2, {node, Us}),
    update([{set, 1, 1}, {set, 2, 2}]),
    {_R3, #{Us := [1, 2]}} = subscribe(S3, all),
    {R4, []} = subscribe(Sb, {node, There}),
    say({discover, B, 2}),
    say_cast({local_data, B, 2, #{2 => 2, 1 => 1}}),
    {_R5, [1, 2]} = subscribe(S3, {node, There}),
    say({update, B, [{set, 3, 3}, {set, 1, 5}, {drop, 2}]}),
    ok = unsubscribe(S2, R2),
    update([{set, 3, 3}]),
    ok = unsubscribe(S1, R1),
    ok = unsubscribe(S1, R1),
    update([{drop, 3}]),
    kill(S3, 2),
    update([{drop, 2}]),
    %% With the connection ends the peer, and the subscriber there.
    down(b, 2),
    up(b),
    ok = unsubscribe(S1, R4),
    update([{drop, 1}]);
play(names_standalone) ->
    up_before(b),
    start_names(2, 2, #{standalone => true}),
    [S] = puppets(a, 1),
    [B] = puppets(b, 1),
    subscribe(S, all),
    say({discover, B, 2}),
    update([{set, 1, 1}]),
    say_cast({local_data, B, 2, #{1 => 1}}),
    say({update, B, [{set, 2, 2}]}),
    update([{drop, 1}]),
    kill(B);
play(names_versions) ->
    %% Numbers < atoms < tuples < maps < lists.
    start_names(2, {1, b}, #{}),
    update([{set, 1, 1}]),
    [up(Node) || Node <- [b, c, d]],
    [B1, B2] = puppets(b, 2),
    [C, D] = [P || N <- [c, d], P <- puppets(N, 1)],
    say({discover, B1, 1.5}),
    say_cast({local_data, B1, {1, b}, [1]}),
    say({discover, C, next}),
    say_cast({local_data, C, {1, b}, []}),
    say({discover, D, {1, a}}),
    say_cast({local_data, D, {1, b}, []}),
    update([{set, 2, 2}]),
    kill(B1),
    kill(D),
    [D2] = puppets(d, 1),
    say({discover, B2, #{v => 1}}),
    say_cast({local_data, B2, {1, b}, #{1 => 1}}),
    say({discover, D2, "3.0"}),
    say_cast({local_data, D2, {1, b}, #{}}),
    update([{set, 3, 3}, {drop, 1}]);
play(names_walk) ->
    start_names(2, 2, #{}),
    recorder_walk:walk(names_walk, dp_names).

start_names(Format, Version, Options) ->
    start(dp_names, Options#{format => Format, version => Version}).
