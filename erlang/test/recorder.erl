%% Writes down what OTP 29's data_publisher does, for `integration/trace` to compare ours with.
%%
%% Runs on a node `a` of OTP 29 and takes three more, `b`, `c` and `d`, where processes say what they're
%% told to: they play the scopes there. What is recorded is the real engine, with real connections: the
%% process of the scope is traced from its first instruction on.
%%
%% A transcript is text, one thing a line, each a word and Erlang terms:
%%
%%     % a comment
%%     start Module Options Me Nodes   the scope starts as Me; Nodes are connected already
%%     in Message                      the engine begins to handle this message, whole as it was sent
%%     out To Message                  it sends; To is a pid, an alias or {Name, Node}
%%     monitor Ref Pid                 it starts to watch a process
%%     demonitor Ref                   it stops
%%
%% What follows an `in` up to the next one is what the engine does because of it, in order; what follows
%% `start` is what it does first. Pids and references differ each time, so they're written as atoms that
%% are numbered as they show up: `'<b.1>'` is the first process of node b, `'#1'` the first reference.
%%
%% An `in` is taken from the call of the gen_server's callback, not from the arrival of the message: so
%% what comes between two of them belongs to the first.
-module(recorder).

-export([cases/0, record/2]).
-export([puppet/0, trace_to/1]).

%% How long anything here may take, in milliseconds.
-define(PATIENCE, 5000).

cases() ->
    [pg_exchange, pg_version_0, pg_corrected, pg_local, pg_death, pg_unknown_leave, pg_order, pg_ends,
     pg_subscribers, pg_standalone, pg_walk,
     names_exchange, names_lower, names_updates, names_again, names_order, names_unchanged, names_ends,
     names_subscribers, names_standalone, names_versions, names_walk].

%% Runs a case and gives the transcript. `Nodes` are the names of b, c and d, which have this module.
record(Case, Nodes) ->
    %% Else the scope's process has to ask for them.
    ok = code:ensure_modules_loaded([data_publisher, pg, dp_names]),
    {Pid, Monitor} = spawn_monitor(fun() -> exit({recorded, recorded(Case, Nodes)}) end),
    receive
        {'DOWN', Monitor, process, Pid, {recorded, Text}} -> Text;
        {'DOWN', Monitor, process, Pid, Reason} -> error({Case, Reason})
    end.

recorded(Case, Nodes) ->
    ok = net_kernel:monitor_nodes(true),
    put(nodes, maps:from_list(lists:zip([b, c, d], Nodes))),
    [disconnect(Node) || Node <- nodes()],
    [put({idle, Node}, idle(Node)) || Node <- Nodes],
    put(tracer, spawn_link(?MODULE, trace_to, [self()])),
    try
        play(Case),
        delivered(),
        unicode:characters_to_binary([about(Case), $\n | text(ask(lines))])
    after
        [erlang:trace(Pid, false, [all]) || Pid <- [get(scope)], Pid =/= undefined],
        erlang:trace_pattern({'_', '_', '_'}, false, []),
        [stop(Pid) || Pid <- [get(scope) | puppets()], is_pid(Pid), node(Pid) =:= node()],
        [exit(Pid, kill) || Pid <- puppets(), node(Pid) =/= node()],
        [disconnect(Node) || Node <- nodes()]
    end.

%% Processes of a node that we may need while we aren't connected to it.
idle(Node) ->
    connect(Node, erlang:monotonic_time(millisecond) + ?PATIENCE),
    Pids = [spawn(Node, ?MODULE, puppet, []) || _ <- lists:seq(1, 12)],
    disconnect(Node),
    Pids.

stop(Pid) ->
    Monitor = erlang:monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, _, _} -> ok after ?PATIENCE -> exit({Pid, timeout}) end.

%%% Cases

about(pg_exchange) -> "% Two scopes of OTP 29 meet, and what they own then changes.";
about(pg_version_0) -> "% A peer that speaks as before OTP 29, and one of OTP 29 beside it.";
about(pg_corrected) -> "% A peer that says hello in the short form and then sends local data of version 1.";
about(pg_local) -> "% Members of our own join and leave, with no peer, one, and three of both versions.";
about(pg_death) -> "% Members of our own end, in one group and in many, joined once and twice.";
about(pg_unknown_leave) -> "% Processes leave groups they aren't in.";
about(pg_order) -> "% Updates of strangers and updates before local data; local data before a hello.";
about(pg_ends) -> "% Peers end, connections end, and all come back.";
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
    walk(pg_walk, pg);
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
    #{b := There} = get(nodes),
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
    walk(names_walk, dp_names).

start_names(Format, Version, Options) ->
    start(dp_names, Options#{format => Format, version => Version}).

%%% A walk at random: the same one each time, for the seed is the case's name

-record(walk, {module, random, up = [], peers = #{}, own, subscribers = [], members = []}).

walk(Seed, Module) ->
    Random = rand:seed_s(exsss, erlang:phash2(Seed)),
    Members = case Module of pg -> puppets(a, 4); dp_names -> [] end,
    steps(200, #walk{module = Module, random = Random, own = #{}, members = Members}).

steps(0, _) -> ok;
steps(N, Walk) ->
    {What, Walk1} = pick([connection, peer, peer, update, update, update, subscriber, hello, death], Walk),
    steps(N - 1, step(What, Walk1)).

pick(List, Walk = #walk{random = Random}) ->
    {N, Next} = rand:uniform_s(length(List), Random),
    {lists:nth(N, List), Walk#walk{random = Next}}.

%% A connection comes or goes; one goes seldom.
step(connection, Walk0 = #walk{up = Up, peers = Peers}) ->
    {Node, Walk1} = pick([b, c, d], Walk0),
    {Chance, Walk} = pick([1, 2, 3, 4], Walk1),
    case lists:member(Node, Up) of
        false ->
            up(Node),
            Walk#walk{up = [Node | Up]};
        true when Chance =:= 1 ->
            Lost = case Peers of #{Node := _} -> 1; _ -> 0 end,
            down(Node, Lost),
            Walk#walk{up = Up -- [Node], peers = maps:remove(Node, Peers)};
        true ->
            Walk
    end;
%% A peer appears on a node where there's none, or changes what it owns.
step(peer, Walk = #walk{up = []}) ->
    Walk;
step(peer, Walk0 = #walk{up = Up, module = Module, peers = Peers}) ->
    {Node, Walk1} = pick(lists:sort(Up), Walk0),
    case Peers of
        #{Node := {Pid, Version, Members, Data}} ->
            {{Update, NewData}, Walk2} = random_update(Module, Version, Members, Data, Walk1),
            peer_update(Module, Version, Pid, Update),
            Walk2#walk{peers = Peers#{Node => {Pid, Version, Members, NewData}}};
        _ ->
            {Version, Walk2} = pick(case Module of pg -> [0, 1]; dp_names -> [1, 2, 3] end, Walk1),
            [Pid | Members] = puppets(Node, 3),
            {{_, Data}, Walk3} = random_update(Module, Version, Members, #{}, Walk2),
            peer_hello(Module, Version, Pid),
            peer_data(Module, Version, Pid, Data),
            Walk3#walk{peers = Peers#{Node => {Pid, Version, Members, Data}}}
    end;
step(update, Walk0 = #walk{module = Module, members = Members, own = Own}) ->
    {{Update, NewOwn}, Walk} = random_update(Module, 2, Members, Own, Walk0),
    update(Update),
    Walk#walk{own = NewOwn};
step(subscriber, Walk0 = #walk{module = Module, subscribers = Subscribers, random = Random}) ->
    {N, Next} = rand:uniform_s(4, Random),
    case Subscribers of
        [{Pid, Ref} | Rest] when N =:= 1 ->
            ok = unsubscribe(Pid, Ref),
            exit(Pid, kill),
            Walk0#walk{subscribers = Rest, random = Next};
        [{Pid, _} | Rest] when N =:= 2 ->
            kill(Pid),
            Walk0#walk{subscribers = Rest, random = Next};
        _ when length(Subscribers) < 3 ->
            {Key, Walk} = pick(case Module of
                                   pg -> [scope, {group, 1}];
                                   dp_names -> [all, {node, node()}]
                               end, Walk0#walk{random = Next}),
            [Pid] = puppets(a, 1),
            {Ref, _} = subscribe(Pid, Key),
            Walk#walk{subscribers = Subscribers ++ [{Pid, Ref}]};
        _ ->
            Walk0#walk{random = Next}
    end;
%% A peer says hello or sends its local data again.
step(hello, Walk = #walk{peers = Peers}) when Peers =:= #{} ->
    Walk;
step(hello, Walk0 = #walk{module = Module, peers = Peers}) ->
    {Node, Walk1} = pick(lists:sort(maps:keys(Peers)), Walk0),
    #{Node := {Pid, Version, Members, Data}} = Peers,
    {What, Walk2} = pick([hello, data], Walk1),
    case What of
        hello ->
            peer_hello(Module, Version, Pid),
            Walk2;
        data ->
            {{_, NewData}, Walk3} = random_update(Module, Version, Members, Data, Walk2),
            peer_data(Module, Version, Pid, NewData),
            Walk3#walk{peers = Peers#{Node => {Pid, Version, Members, NewData}}}
    end;
%% A peer ends, or a member.
step(death, Walk0 = #walk{peers = Peers, members = Members, own = Own}) ->
    {What, Walk1} = pick([peer, member, none, none, none], Walk0),
    case {What, lists:sort(maps:keys(Peers)), Members} of
        {peer, [_ | _] = Nodes, _} ->
            {Node, Walk2} = pick(Nodes, Walk1),
            #{Node := {Pid, _, _, _}} = Peers,
            kill(Pid),
            Walk2#walk{peers = maps:remove(Node, Peers)};
        {member, _, [_ | _]} ->
            {Member, Walk2} = pick(Members, Walk1),
            Without = maps:filter(fun(_, Pids) -> Pids =/= [] end,
                                  maps:map(fun(_, Pids) -> [P || P <- Pids, P =/= Member] end, Own)),
            case Without =:= Own of
                true -> kill(Member, 0);
                false -> kill(Member)
            end,
            [New] = puppets(a, 1),
            Walk2#walk{own = Without, members = [New | Members -- [Member]]};
        _ ->
            Walk1
    end.

%% An update that changes something, and the data after it.
random_update(pg, _, Members, Data, Walk0) ->
    {Group, Walk1} = pick([1, 2, {three}], Walk0),
    {Member, Walk2} = pick(Members, Walk1),
    {Leave, Walk} = pick([true, false], Walk2),
    Pids = maps:get(Group, Data, []),
    case Leave andalso lists:member(Member, Pids) of
        true ->
            NewData = case Pids -- [Member] of
                          [] -> maps:remove(Group, Data);
                          Left -> Data#{Group => Left}
                      end,
            {{[{Group, [], [Member]}], NewData}, Walk};
        false ->
            {{[{Group, [Member], []}], Data#{Group => [Member | Pids]}}, Walk}
    end;
random_update(dp_names, Version, _, Data, Walk0) ->
    {Name, Walk1} = pick([1, 2, 3, <<"four">>, {5}], Walk0),
    {Weight, Walk2} = pick(case Version of 1 -> [1]; _ -> [1, 2, 3] end, Walk1),
    {Drop, Walk} = pick([true, false], Walk2),
    {Change, NewData} =
        case Data of
            #{Name := _} when Drop; Version =:= 1 -> {{drop, Name}, maps:remove(Name, Data)};
            #{Name := Weight} -> {{set, Name, Weight + 1}, Data#{Name => Weight + 1}};
            _ -> {{set, Name, Weight}, Data#{Name => Weight}}
        end,
    {{[Change], NewData}, Walk}.

peer_hello(pg, 0, Pid) -> say({discover, Pid});
peer_hello(_, Version, Pid) -> say({discover, Pid, Version}).

peer_data(pg, 0, Pid, Data) -> say_cast({sync, Pid, maps:to_list(Data)});
peer_data(pg, 1, Pid, Data) -> say_cast({local_data, Pid, 1, Data});
peer_data(dp_names, 1, Pid, Data) -> say_cast({local_data, Pid, 2, lists:sort(maps:keys(Data))});
peer_data(dp_names, _, Pid, Data) -> say_cast({local_data, Pid, 2, Data}).

peer_update(pg, 0, Pid, [{Group, [Member], []}]) -> say({join, Pid, Group, Member});
peer_update(pg, 0, Pid, [{Group, [], [Member]}]) -> say({leave, Pid, Member, [Group]});
peer_update(dp_names, 1, Pid, [{set, Name, _}]) -> say({update, Pid, [{add, Name}]});
peer_update(dp_names, 1, Pid, [{drop, Name}]) -> say({update, Pid, [{remove, Name}]});
peer_update(_, _, Pid, Update) -> say({update, Pid, Update}).

%%% Steps. Each returns when the engine has done what it does because of it

start(Module, Options) ->
    Scope = case Module of pg -> recorded_pg; dp_names -> recorded_names end,
    Nodes = lists:sort(nodes()),
    Tracer = get(tracer),
    Self = self(),
    {Starter, Monitor} = spawn_monitor(
        fun() ->
            trace_me(Tracer),
            {ok, Pid} = case Module of
                            pg -> data_publisher:start(Scope, pg, Options);
                            dp_names -> dp_names:start(Scope, Options)
                        end,
            erlang:trace(self(), false, [all]),
            Self ! {self(), Pid}
        end),
    receive
        {Starter, Pid} ->
            erlang:demonitor(Monitor, [flush]),
            put(scope, Pid),
            Options1 = maps:without([format, version], Options),
            Format = maps:with([format, version], Options),
            ask({started, {Scope, Module, maps:merge(Options1, Format), Pid, Nodes}, Starter});
        {'DOWN', Monitor, process, _, Reason} ->
            exit({start, Reason})
    after ?PATIENCE -> exit({start, timeout})
    end,
    delivered().

trace_me(Tracer) ->
    %% The message of a traced call, where a match specification makes one, stands for its arguments.
    One = [{['$1', '_'], [], [{message, '$1'}, {return_trace}]}],
    Call = [{['$1', '$2', '_'], [], [{message, {{'$1', '$2'}}}, {return_trace}]}],
    Watch = [{[process, '$1', '_'], [], [{message, '$1'}, {return_trace}]}],
    [1, 1, 1, 1, 1] =
        [erlang:trace_pattern(Function, Pattern, [])
         || {Function, Pattern} <- [{{data_publisher, handle_info, 2}, One},
                                    {{data_publisher, handle_cast, 2}, One},
                                    {{data_publisher, handle_call, 3}, Call},
                                    {{erlang, monitor, 3}, Watch},
                                    {{erlang, demonitor, 1}, [{['$1'], [], [{message, '$1'}]}]}]],
    1 = erlang:trace(self(), true, [call, arity, send, set_on_spawn, {tracer, Tracer}]).

%% A connection comes up. Before a scope starts, or for one that stands alone, that is all.
up_before(Name) ->
    #{Name := Node} = get(nodes),
    connect(Node, erlang:monotonic_time(millisecond) + ?PATIENCE).

up(Name) ->
    handling(1, fun() -> up_before(Name) end).

%% The other side may not have seen yet that the last one ended.
connect(Node, End) ->
    case net_kernel:connect_node(Node) of
        true ->
            receive {nodeup, Node} -> ok after ?PATIENCE -> exit({connect, Node}) end;
        false ->
            erlang:monotonic_time(millisecond) < End orelse exit({connect, Node}),
            receive after 10 -> connect(Node, End) end
    end.

%% A connection ends, and with it so many monitors.
down(Name, Monitors) ->
    #{Name := Node} = get(nodes),
    handling(1 + Monitors, fun() -> disconnect(Node) end).

disconnect(Node) ->
    true = erlang:disconnect_node(Node),
    receive {nodedown, Node} -> ok after ?PATIENCE -> exit({disconnect, Node}) end.

%% The process that the message is of says it to the scope; and then so many more messages come of it.
say(Message) ->
    say(Message, 0).

say(Message, More) ->
    Puppet = mouth_of(element(2, Message)),
    handling(1 + More, fun() -> Puppet ! {send, get(scope), Message} end).

say_cast(Message) ->
    Puppet = mouth_of(element(2, Message)),
    handling(1, fun() -> Puppet ! {send, get(scope), {'$gen_cast', Message}} end).

%% One that lives, on the same node: it may be a word of one that doesn't.
mouth_of(Pid) ->
    Key = {mouth, node(Pid)},
    case get(Key) of
        undefined ->
            [Mouth] = puppets(node(Pid), 1),
            put(Key, Mouth),
            Mouth;
        Mouth -> Mouth
    end.

update(Update) ->
    update(Update, 0).

update(Update, More) ->
    Caller = case get(caller) of
                 undefined -> [New] = puppets(a, 1), put(caller, New), New;
                 Known -> Known
             end,
    ok = call(Caller, {update, Update}, More).

subscribe(Pid, Key) -> call(Pid, {subscribe, Key}).

unsubscribe(Pid, Ref) -> call(Pid, {unsubscribe, Ref}).

call(Pid, Request) ->
    call(Pid, Request, 0).

call(Pid, Request, More) ->
    Scope = get(scope),
    Tag = make_ref(),
    handling(1 + More, fun() -> Pid ! {call, Scope, Request, self(), Tag} end),
    Reply = receive {Tag, Value} -> Value after ?PATIENCE -> exit({Request, timeout}) end,
    %% The engine's answer leaves after its function has returned.
    delivered(),
    Reply.

%% A process ends, which so many monitors report.
kill(Pid) ->
    kill(Pid, 1).

kill(Pid, Monitors) ->
    handling(Monitors, fun() -> stop(Pid) end).

%% Does it, and waits until the engine is through with so many more messages.
handling(Count, Do) ->
    Before = ask(handled),
    Do(),
    Tracer = get(tracer),
    Monitor = erlang:monitor(process, Tracer),
    Tracer ! {when_handled, Before + Count, Monitor, self()},
    receive
        {Monitor, handled} -> erlang:demonitor(Monitor, [flush]), ok;
        {'DOWN', Monitor, process, _, Reason} -> exit({tracer, Reason})
    after ?PATIENCE -> exit({not_handled, Count, lists:reverse(lists:sublist(ask(lines), 10))})
    end.

%% All that the scope did so far is with the tracer.
delivered() ->
    Ref = erlang:trace_delivered(get(scope)),
    receive {trace_delivered, _, Ref} -> ok after ?PATIENCE -> exit({trace_delivered, timeout}) end.

%%% Processes that do what they're told

puppets(Name, Count) ->
    Node = case get(nodes) of #{Name := Known} -> Known; _ when Name =:= a -> node(); _ -> Name end,
    [puppet(Node) || _ <- lists:seq(1, Count)].

puppet(Node) ->
    case get({idle, Node}) of
        [Pid | Rest] ->
            put({idle, Node}, Rest);
        _ ->
            Pid = spawn(Node, ?MODULE, puppet, [])
    end,
    put(puppets, [Pid | puppets()]),
    Pid.

%% All that were used.
puppets() ->
    case get(puppets) of undefined -> []; Pids -> Pids end.

puppet() ->
    receive
        {send, To, Message} -> To ! Message, puppet();
        {call, To, Request, From, Tag} -> From ! {Tag, gen_server:call(To, Request, infinity)}, puppet();
        _ -> puppet()
    end.

%%% The tracer

ask(Question) ->
    Tracer = get(tracer),
    Monitor = erlang:monitor(process, Tracer),
    Tracer ! {ask, Question, Monitor, self()},
    receive
        {Monitor, Answer} -> erlang:demonitor(Monitor, [flush]), Answer;
        {'DOWN', Monitor, process, _, Reason} -> exit({tracer, Reason})
    after ?PATIENCE -> exit({tracer, timeout})
    end.

%% Collects until its recorder ends. Lines are the latest first.
trace_to(Recorder) ->
    %% Until it's known which process is the scope, all is kept as it came.
    receive
        {ask, {started, Start, Starter}, Ref, Recorder} ->
            Recorder ! {Ref, ok},
            {_, _, _, Pid, _} = Start,
            collect(#{scope => Pid, starter => Starter, handled => 0, waiting => none, monitoring => none,
                      lines => [{start, Start}]});
        {ask, lines, Ref, Recorder} ->
            Recorder ! {Ref, []},
            trace_to(Recorder)
    end.

collect(State) ->
    #{scope := Scope, starter := Starter, handled := Handled, lines := Lines} = State,
    receive
        {trace, Scope, call, {data_publisher, handle_info, 2}, Message} ->
            collect(State#{lines := [{in, Message} | Lines]});
        {trace, Scope, call, {data_publisher, handle_cast, 2}, Message} ->
            collect(State#{lines := [{in, {'$gen_cast', Message}} | Lines]});
        {trace, Scope, call, {data_publisher, handle_call, 3}, {Request, From}} ->
            collect(State#{lines := [{in, {'$gen_call', From, Request}} | Lines]});
        {trace, Scope, return_from, {data_publisher, _, _}, _} ->
            collect(tell(State#{handled := Handled + 1}));
        {trace, Scope, call, {erlang, monitor, 3}, Pid} ->
            collect(State#{monitoring := Pid});
        {trace, Scope, return_from, {erlang, monitor, 3}, Ref} ->
            #{monitoring := Pid} = State,
            collect(State#{monitoring := none, lines := [{monitor, Ref, Pid} | Lines]});
        {trace, Scope, call, {erlang, demonitor, 1}, Ref} ->
            collect(State#{lines := [{demonitor, Ref} | Lines]});
        {trace, Scope, Send, _, Starter} when Send =:= send; Send =:= send_to_non_existing_process ->
            collect(State);
        {trace, Scope, Send, Message, To} when Send =:= send; Send =:= send_to_non_existing_process ->
            collect(State#{lines := [{out, To, Message} | Lines]});
        {trace, Starter, _, _, _} ->
            collect(State);
        {trace, Starter, _, _} ->
            collect(State);
        {when_handled, Count, Ref, From} ->
            collect(tell(State#{waiting := {Count, Ref, From}}));
        {ask, handled, Ref, From} ->
            From ! {Ref, Handled},
            collect(State);
        {ask, lines, Ref, From} ->
            From ! {Ref, lists:reverse(Lines)},
            collect(State);
        Other ->
            exit({unexpected, Other})
    end.

tell(State = #{waiting := {Count, Ref, From}, handled := Handled}) when Handled >= Count ->
    From ! {Ref, handled},
    State#{waiting := none};
tell(State) ->
    State.

%%% Text

text(Lines) ->
    {Text, _} = lists:mapfoldl(fun line/2, #{}, Lines),
    Text.

line({start, {Scope, Module, Options, Me, Nodes}}, Names) ->
    words(start, [Scope, Module, Options, Me, Nodes], Names);
line({in, Message}, Names) ->
    {Text, Named} = words(in, [Message], Names),
    {[$\n, Text], Named};
line({out, To, Message}, Names) ->
    words("  out", [To, Message], Names);
line({monitor, Ref, Pid}, Names) ->
    words("  monitor", [Ref, Pid], Names);
line({demonitor, Ref}, Names) ->
    words("  demonitor", [Ref], Names).

words(Word, Terms, Names) ->
    {Named, NewNames} = lists:mapfoldl(fun named/2, Names, Terms),
    {io_lib:format("~ts~ts~n", [Word, [io_lib:format(" ~0ktp", [Term]) || Term <- Named]]), NewNames}.

%% The term with an atom for each pid and reference.
named(Pid, Names) when is_pid(Pid) ->
    [Short, _] = string:split(atom_to_list(node(Pid)), "@"),
    name(Pid, Short, fun(N) -> lists:concat(["<", Short, ".", N, ">"]) end, Names);
named(Ref, Names) when is_reference(Ref) ->
    name(Ref, reference, fun(N) -> lists:concat(["#", N]) end, Names);
named([Head | Tail], Names) ->
    {NamedHead, Names1} = named(Head, Names),
    {NamedTail, Names2} = named(Tail, Names1),
    {[NamedHead | NamedTail], Names2};
named(Tuple, Names) when is_tuple(Tuple) ->
    {List, NewNames} = named(tuple_to_list(Tuple), Names),
    {list_to_tuple(List), NewNames};
named(Map, Names) when is_map(Map) ->
    {List, NewNames} = named(lists:sort(maps:to_list(Map)), Names),
    {maps:from_list(List), NewNames};
named(Term, Names) ->
    {Term, Names}.

name(Term, Kind, Text, Names) ->
    case Names of
        #{Term := Name} ->
            {Name, Names};
        _ ->
            N = maps:get({count, Kind}, Names, 0) + 1,
            Name = list_to_atom(Text(N)),
            {Name, Names#{Term => Name, {count, Kind} => N}}
    end.
