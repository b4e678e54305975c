%% What the behaviour does. Where OTP 29's own does something else, the test says what, so that the day it's
%% changed is noticed.
-module(data_publisher_tests).

-include_lib("stdlib/include/assert.hrl").

-export([cluster_test_/0, callbacks_test/0, tests/0]).
-import(dp_test, [call/4, name/1, scope/0, wait_until/2, is_own/0]).

cluster_test_() ->
    {setup,
     fun() -> dp_test:start_nodes(3) end,
     fun dp_test:stop_nodes/1,
     fun(Nodes) -> [{Title, {timeout, 60, fun() -> Test(Nodes) end}} || {Title, Test} <- tests()] end}.

tests() ->
    [{"options reach the callbacks", fun options/1},
     {"a scope's name is taken once", fun taken/1},
     {"updates are in the view when the call returns, and reach all", fun updates/1},
     {"subscribers are notified until they unsubscribe or end", fun subscribers/1},
     {"the greeting of a stranger is answered with data, then with a greeting", fun greeting/1},
     {"a known peer that greets again gets the data again and nothing else", fun greeting_again/1},
     {"a hidden node that greets is a peer like any other", fun hidden/1},
     {"updates of strangers are ignored", fun stranger/1},
     {"updates before the local data are ignored", fun early/1},
     {"peers on our own node are ignored", fun own_node/1},
     {"a peer that never says discover gets our data all the same", fun no_discover/1},
     {"a label below our version is believed", fun low_label/1},
     {"what the label of a peer says isn't written while its discover may still come", fun late_discover/1},
     {"what the module has as plain messages is sent as it is", fun plain/1},
     {"what nobody knows is given to the module", fun other_messages/1},
     {"other dialects are translated", fun dialects/1},
     {"an unknown call is refused", fun unknown_call/1},
     {"an update that can't be read is refused as a whole", fun refused_update/1},
     {"a subscription that can't be read is refused", fun refused_subscription/1},
     {"a peer whose update can't be read is asked for its data", fun unreadable_update/1},
     {"a peer whose local data can't be read is asked no more than it should", fun unreadable_data/1},
     {"of two processes of a node the younger one's data is shown", fun two_of_a_node/1}]
    ++ [{lists:flatten(io_lib:format("~p and ~p understand each other, ~s", [Old, New, Order])),
         fun(Nodes) -> versions(Old, New, Order, Nodes) end}
        || {Old, New} <- [{1, 2}, {a, b}, {{1, 9}, {2, 0}}, {"1.0", "1.1"}, {#{v => 1}, #{v => 2}},
                          {1, two}, {2, {1, 0}}],
           Order <- [old_first, new_first, late_connect]].

callbacks_test() ->
    ?assertEqual(
        [{data_diff, 2}, {init_global_view, 2}, {init_local_data, 1}, {new_subscription, 2},
         {stop_global_view, 1}, {translate_local_data, 3}, {translate_message, 2}, {translate_update, 3},
         {update_global_view_and_notify, 4}, {update_local_data, 2}, {version, 0}],
        lists:sort(data_publisher:behaviour_info(callbacks))),
    ?assertEqual([{translate_message, 2}], data_publisher:behaviour_info(optional_callbacks)),
    Exports = data_publisher:module_info(exports),
    ?assertEqual([], [start, start_link] -- [Name || {Name, 2} <- Exports]),
    ?assertEqual([], [start, start_link] -- [Name || {Name, 3} <- Exports]),
    ?assertEqual([], [update, subscribe, unsubscribe] -- [Name || {Name, 2} <- Exports]).

%%% A scope

start(Node, Scope) ->
    start(Node, Scope, #{}).

start(Node, Scope, Settings) ->
    ok = call(Node, dp_sample, set, [Scope, Settings]),
    {ok, _} = call(Node, data_publisher, start, [Scope, dp_sample]),
    ok.

update(Node, Scope, Update) ->
    ok = call(Node, data_publisher, update, [Scope, Update]).

view(Node, Scope) ->
    call(Node, dp_sample, view, [Scope]).

see(Node, Scope, Expected) ->
    wait_until(fun() -> view(Node, Scope) end, Expected).

pid(Node, Scope) ->
    call(Node, erlang, whereis, [Scope]).

%%% What a peer's process says and hears

peer(Node) ->
    call(Node, dp_test, collector, []).

say(Node, Peer, To, Message) ->
    _ = call(Node, dp_test, apply_in, [Peer, erlang, send, [To, Message]]),
    ok.

hears(Node, Peer, Expected) ->
    wait_until(fun() -> call(Node, dp_test, messages, [Peer]) end, Expected).

%% What a peer's process has heard when the scope has handled all it was told.
heard(Node, Peer, To) ->
    %% From the same process, so it's behind all that the process has said.
    _ = call(Node, dp_test, apply_in, [Peer, gen_server, call, [To, {unsubscribe, make_ref()}]]),
    call(Node, dp_test, messages, [Peer]).

%%% Tests

options([A | _]) ->
    Scope = scope(),
    Options = #{items => [x], standalone => true, other => {any, "thing"}},
    {ok, Pid} = call(A, data_publisher, start, [Scope, dp_sample, Options]),
    ?assertEqual(Pid, pid(A, Scope)),
    ?assertEqual({{Scope, Options}, Options}, call(A, dp_sample, view, [Scope, options])).

taken([A | _]) ->
    Scope = scope(),
    start(A, Scope),
    ?assertEqual({error, {already_started, pid(A, Scope)}},
                 call(A, data_publisher, start, [Scope, dp_sample])),
    ?assertEqual({error, {already_started, pid(A, Scope)}},
                 call(A, data_publisher, start_link, [Scope, dp_sample, #{}])).

updates([A, B, C] = Nodes) ->
    Scope = scope(),
    [start(Node, Scope) || Node <- Nodes],
    update(A, Scope, {old, 1}),
    ?assertEqual(#{name(A) => {old, [1]}}, view(A, Scope)),
    update(A, Scope, {old, 2}),
    update(B, Scope, {old, 3}),
    [see(Node, Scope, #{name(A) => {old, [1, 2]}, name(B) => {old, [3]}}) || Node <- Nodes],
    call(B, gen_server, stop, [Scope]),
    [see(Node, Scope, #{name(A) => {old, [1, 2]}}) || Node <- [A, C]].

subscribers([A, B | _]) ->
    Scope = scope(),
    start(A, Scope),
    At = {Scope, name(A)},
    {Here, HereRef, []} = call(A, dp_test, subscriber, [data_publisher, Scope, events]),
    {There, ThereRef, []} = call(B, dp_test, subscriber, [data_publisher, At, events]),
    update(A, Scope, {old, 1}),
    hears(A, Here, [{HereRef, name(A), {old, 1}}]),
    hears(B, There, [{ThereRef, name(A), {old, 1}}]),
    call(A, dp_test, stop, [Here]),
    ok = call(B, data_publisher, unsubscribe, [At, ThereRef]),
    update(A, Scope, {old, 2}),
    wait_until(fun() -> call(A, erlang, process_info, [pid(A, Scope), monitors]) end, {monitors, []}),
    ?assertEqual([{ThereRef, name(A), {old, 1}}], heard(B, There, At)).

greeting([A, B | _]) ->
    Scope = scope(),
    start(A, Scope),
    update(A, Scope, {old, 1}),
    Me = pid(A, Scope),
    Peer = peer(B),
    say(B, Peer, {Scope, name(A)}, {discover, Peer, 1}),
    hears(B, Peer, [{'$gen_cast', {local_data, Me, 1, {old, [1]}}}, {discover, Me, 1}]),
    update(A, Scope, {old, 2}),
    hears(B, Peer, [{'$gen_cast', {local_data, Me, 1, {old, [1]}}}, {discover, Me, 1},
                    {update, Me, {old, 2}}]).

greeting_again([A, B | _]) ->
    Scope = scope(),
    start(A, Scope),
    Me = pid(A, Scope),
    Peer = peer(B),
    say(B, Peer, {Scope, name(A)}, {discover, Peer, 1}),
    update(A, Scope, {old, 1}),
    say(B, Peer, {Scope, name(A)}, {discover, Peer, 1}),
    wait_until(
        fun() -> call(B, dp_test, messages, [Peer]) -- [{update, Me, {old, 1}}] end,
        fun(Heard) ->
            lists:last([none | Heard]) =:= {'$gen_cast', {local_data, Me, 1, {old, [1]}}}
                andalso length([again || {discover, _, _} <- Heard]) =:= 1
        end).

hidden([A, B | _]) ->
    Scope = scope(),
    start(A, Scope),
    Hidden = dp_test:start_node(["-hidden"], [A]),
    Peer = peer(Hidden),
    say(Hidden, Peer, {Scope, name(A)}, {discover, Peer, 1}),
    say(Hidden, Peer, {Scope, name(A)}, {'$gen_cast', {local_data, Peer, 1, {old, [hidden]}}}),
    see(A, Scope, #{name(Hidden) => {old, [hidden]}}),
    update(A, Scope, {old, 1}),
    wait_until(fun() -> lists:last(call(Hidden, dp_test, messages, [Peer])) end,
               {update, pid(A, Scope), {old, 1}}),
    start(B, Scope),
    dp_test:stop_node(Hidden),
    see(A, Scope, #{name(A) => {old, [1]}}).

stranger([A, B | _]) ->
    Scope = scope(),
    start(A, Scope),
    Peer = peer(B),
    say(B, Peer, {Scope, name(A)}, {update, Peer, {old, 1}}),
    ?assertEqual([], heard(B, Peer, {Scope, name(A)})),
    ?assertEqual(#{}, view(A, Scope)).

early([A, B | _]) ->
    Scope = scope(),
    start(A, Scope),
    Peer = peer(B),
    To = {Scope, name(A)},
    say(B, Peer, To, {discover, Peer, 1}),
    say(B, Peer, To, {update, Peer, {old, 1}}),
    heard(B, Peer, To),
    case is_own() of
        true -> ?assertEqual(#{}, view(A, Scope));
        false -> ?assertEqual(#{name(B) => {old, [1]}}, view(A, Scope))
    end,
    say(B, Peer, To, {'$gen_cast', {local_data, Peer, 1, {old, [0, 1]}}}),
    say(B, Peer, To, {update, Peer, {old, 2}}),
    see(A, Scope, #{name(B) => {old, [0, 1, 2]}}).

own_node([A | _]) ->
    Scope = scope(),
    start(A, Scope),
    Peer = peer(A),
    say(A, Peer, Scope, {discover, Peer, 1}),
    say(A, Peer, Scope, {local_data, Peer, 1, {old, [1]}}),
    say(A, Peer, Scope, {update, Peer, {old, 2}}),
    say(A, Peer, Scope, {nodeup, name(A)}),
    Heard = heard(A, Peer, Scope),
    case is_own() of
        true ->
            ?assertEqual([], Heard),
            ?assertEqual(#{}, view(A, Scope));
        false ->
            ?assertMatch([_, _], Heard)
    end.

no_discover([A, B | _]) ->
    Scope = scope(),
    start(A, Scope),
    Me = pid(A, Scope),
    Peer = peer(B),
    say(B, Peer, {Scope, name(A)}, {local_data, Peer, 1, {old, [1]}}),
    see(A, Scope, #{name(B) => {old, [1]}}),
    update(A, Scope, {old, 1}),
    case is_own() of
        true ->
            %% Asked once more, it says what it has, and again no discover. It has half a minute for that.
            hears(B, Peer, [{discover, Me, 1}]),
            say(B, Peer, {Scope, name(A)}, {local_data, Peer, 1, {old, [2]}}),
            see(A, Scope, #{name(A) => {old, [1]}, name(B) => {old, [2]}}),
            Told = {'$gen_cast', {local_data, Me, 1, {old, [1]}}},
            say(B, Peer, {Scope, name(A)}, {timeout, retry_of(A, Scope, Peer), {data_publisher, Peer}}),
            hears(B, Peer, [{discover, Me, 1}, Told]),
            update(A, Scope, {old, 2}),
            hears(B, Peer, [{discover, Me, 1}, Told, {update, Me, {old, 2}}]);
        false ->
            hears(B, Peer, [{update, Me, {old, 1}}])
    end.

%% The timer of the question that was put to a peer last.
retry_of(Node, Scope, Peer) ->
    State = call(Node, sys, get_state, [Scope]),
    [#{Peer := Known}] = [Peers || Peers <- tuple_to_list(State), is_map(Peers), is_map_key(Peer, Peers)],
    element(tuple_size(Known) - 1, Known).

low_label([A, B | _]) ->
    Scope = scope(),
    start(A, Scope, #{version => 2, format => new}),
    Me = pid(A, Scope),
    Peer = peer(B),
    say(B, Peer, {Scope, name(A)}, {local_data, Peer, 1, {old, [1]}}),
    see(A, Scope, #{name(B) => {old, [1]}}),
    update(A, Scope, {new, 1}),
    case is_own() of
        true -> hears(B, Peer, [{'$gen_cast', {local_data, Me, 1, {old, [1]}}}]);
        false -> hears(B, Peer, [{update, Me, {old, 1}}])
    end.

%% A peer of version 1 on OTP 29, which labels its data with the receiver's version.
late_discover([A, B | _]) ->
    Scope = scope(),
    start(A, Scope, #{version => 2, format => new}),
    Me = pid(A, Scope),
    Peer = peer(B),
    To = {Scope, name(A)},
    say(B, Peer, To, {local_data, Peer, 2, {old, [1]}}),
    see(A, Scope, #{name(B) => {old, [1]}}),
    update(A, Scope, {new, 1}),
    case is_own() of
        true ->
            %% The second is over, and nothing but the question was sent.
            hears(B, Peer, [{discover, Me, 2}]),
            update(A, Scope, {new, 2}),
            say(B, Peer, To, {discover, Peer, 1}),
            say(B, Peer, To, {local_data, Peer, 2, {old, [1]}}),
            Told = [{discover, Me, 2}, {'$gen_cast', {local_data, Me, 1, {old, [1, 2]}}}],
            hears(B, Peer, Told),
            update(A, Scope, {new, 3}),
            hears(B, Peer, Told ++ [{update, Me, {old, 3}}]);
        false ->
            hears(B, Peer, [{update, Me, {new, 1}}])
    end.

plain([A, B | _]) ->
    Scope = scope(),
    start(A, Scope),
    Peer = peer(B),
    say(B, Peer, {Scope, name(A)}, {discover, Peer, 1}),
    wait_until(fun() -> length(call(B, dp_test, messages, [Peer])) end, 2),
    update(A, Scope, {old, {plain, [one, {two, 2}]}}),
    wait_until(fun() -> lists:nthtail(2, call(B, dp_test, messages, [Peer])) end, [one, {two, 2}]).

other_messages([A, B | _]) ->
    Scope = scope(),
    start(A, Scope),
    Me = pid(A, Scope),
    Peer = peer(B),
    To = {Scope, name(A)},
    Messages = [{discover, Peer}, any, {update, x}, {timeout, make_ref(), any}],
    [say(B, Peer, To, Message) || Message <- Messages],
    say(B, Peer, To, {'$gen_cast', cast}),
    heard(B, Peer, To),
    ?assertEqual([{message, Message} || Message <- Messages ++ [cast]],
                 call(A, dp_sample, view, [Scope, log])),
    say(B, Peer, To, {mine, 1}),
    see(A, Scope, #{name(A) => {old, [1]}}),
    ?assertEqual(Me, pid(A, Scope)),
    say(B, Peer, To, fail),
    case is_own() of
        true ->
            [say(B, Peer, To, {Word, x, 1}) || Word <- [discover, update]],
            heard(B, Peer, To),
            ?assertEqual(Me, pid(A, Scope));
        false ->
            wait_until(fun() -> pid(A, Scope) end, undefined)
    end.

dialects([A, B | _]) ->
    Scope = scope(),
    start(A, Scope),
    Me = pid(A, Scope),
    Peer = peer(B),
    To = {Scope, name(A)},
    say(B, Peer, To, {hello, Peer}),
    hears(B, Peer, [{'$gen_cast', {local_data, Me, 0, {old, []}}}, {discover, Me, 1}]),
    say(B, Peer, To, {all, Peer, {old, [1]}}),
    say(B, Peer, To, {some, Peer, {old, 2}}),
    see(A, Scope, #{name(B) => {old, [1, 2]}}),
    ?assertEqual([{1, 0}], call(A, dp_sample, view, [Scope, translations])).

unknown_call([A | _]) ->
    Scope = scope(),
    start(A, Scope),
    Me = pid(A, Scope),
    [case is_own() of
         true -> ?assertEqual({error, badarg}, call(A, gen_server, call, [Scope, Request]));
         false -> ?assertExit(_, call(A, gen_server, call, [Scope, Request])), start(A, Scope)
     end || Request <- [unknown, {update}, {unsubscribe, not_a_reference, 1}]],
    ?assertEqual(is_own(), Me =:= pid(A, Scope)).

refused_update([A, B | _]) ->
    Scope = scope(),
    [start(Node, Scope) || Node <- [A, B]],
    update(A, Scope, {old, 1}),
    Seen = #{name(A) => {old, [1]}},
    see(B, Scope, Seen),
    case is_own() of
        true ->
            ?assertError(badarg, update(A, Scope, {old, unreadable})),
            ?assertError(badarg, update(A, Scope, nothing)),
            ?assertEqual(Seen, view(A, Scope));
        false ->
            ?assertExit(_, update(A, Scope, {old, unreadable}))
    end.

refused_subscription([A | _]) ->
    Scope = scope(),
    start(A, Scope),
    case is_own() of
        true ->
            ?assertError(badarg, call(A, data_publisher, subscribe, [Scope, unknown])),
            ?assertEqual({monitors, []}, call(A, erlang, process_info, [pid(A, Scope), monitors]));
        false ->
            ?assertExit(_, call(A, data_publisher, subscribe, [Scope, unknown]))
    end.

unreadable_update([A, B | _]) ->
    Scope = scope(),
    start(A, Scope),
    Me = pid(A, Scope),
    Peer = peer(B),
    To = {Scope, name(A)},
    say(B, Peer, To, {discover, Peer, 1}),
    say(B, Peer, To, {local_data, Peer, 1, {old, [1]}}),
    see(A, Scope, #{name(B) => {old, [1]}}),
    say(B, Peer, To, {update, Peer, {old, unreadable}}),
    case is_own() of
        true ->
            see(A, Scope, #{}),
            hears(B, Peer, [{'$gen_cast', {local_data, Me, 1, {old, []}}}, {discover, Me, 1},
                            {discover, Me, 1}]),
            %% What was made for data that isn't here.
            say(B, Peer, To, {update, Peer, {old, 3}}),
            say(B, Peer, To, {local_data, Peer, 1, {old, [1, 2, 3]}}),
            say(B, Peer, To, {update, Peer, {old, 4}}),
            see(A, Scope, #{name(B) => {old, [1, 2, 3, 4]}});
        false ->
            wait_until(fun() -> pid(A, Scope) end, undefined)
    end.

unreadable_data([A, B | _]) ->
    Scope = scope(),
    start(A, Scope),
    Peer = peer(B),
    To = {Scope, name(A)},
    say(B, Peer, To, {discover, Peer, 1}),
    say(B, Peer, To, {local_data, Peer, 1, {old, unreadable}}),
    case is_own() of
        true ->
            [say(B, Peer, To, {local_data, Peer, 1, {old, unreadable}}) || _ <- lists:seq(1, 10)],
            %% Its own word, and one more.
            ?assertMatch([_, {discover, _, 1}, {discover, _, 1}], heard(B, Peer, To)),
            ?assertEqual(#{}, view(A, Scope)),
            update(A, Scope, {old, 1}),
            hears(B, Peer, [{'$gen_cast', {local_data, pid(A, Scope), 1, {old, []}}},
                            {discover, pid(A, Scope), 1}, {discover, pid(A, Scope), 1},
                            {update, pid(A, Scope), {old, 1}}]),
            say(B, Peer, To, {local_data, Peer, 1, {old, [1]}}),
            see(A, Scope, #{name(A) => {old, [1]}, name(B) => {old, [1]}});
        false ->
            wait_until(fun() -> pid(A, Scope) end, undefined)
    end.

two_of_a_node([A, B | _]) ->
    Scope = scope(),
    start(A, Scope),
    To = {Scope, name(A)},
    Old = peer(B),
    say(B, Old, To, {discover, Old, 1}),
    say(B, Old, To, {local_data, Old, 1, {old, [1]}}),
    see(A, Scope, #{name(B) => {old, [1]}}),
    Young = peer(B),
    say(B, Young, To, {discover, Young, 1}),
    say(B, Young, To, {local_data, Young, 1, {old, [2]}}),
    see(A, Scope, #{name(B) => {old, [2]}}),
    say(B, Old, To, {local_data, Old, 1, {old, [1, 1]}}),
    say(B, Old, To, {update, Old, {old, 1}}),
    heard(B, Old, To),
    ?assertEqual(is_own(), view(A, Scope) =:= #{name(B) => {old, [2]}}),
    call(B, dp_test, stop, [Old]),
    %% The scope has heard of it when it watches one process only.
    Me = pid(A, Scope),
    wait_until(fun() -> length(element(2, call(A, erlang, process_info, [Me, monitors]))) end, 1),
    say(B, Young, To, {update, Young, {old, 3}}),
    heard(B, Young, To),
    case is_own() of
        true -> ?assertEqual(#{name(B) => {old, [2, 3]}}, view(A, Scope));
        false -> ?assertEqual(#{name(B) => {old, [3]}}, view(A, Scope))
    end,
    call(B, dp_test, stop, [Young]),
    see(A, Scope, #{}).

%% One node of the older version, two of the newer one.
versions(Old, New, Order, [A, B, C] = Nodes) ->
    Scope = scope(),
    true = Old < New,
    [dp_test:disconnect(Node, Other) || {Node, Other} <- [{A, B}, {A, C}], Order =:= late_connect],
    StartOld = fun() -> start(A, Scope, #{version => Old, format => old}) end,
    StartNew = fun() -> [start(Node, Scope, #{version => New, format => new}) || Node <- [B, C]] end,
    case Order of
        new_first -> StartNew(), StartOld();
        _ -> StartOld(), StartNew()
    end,
    [update(Node, Scope, {Format, 1}) || {Node, Format} <- [{A, old}, {B, new}, {C, new}]],
    [dp_test:connect(A, Node) || Node <- [B, C], Order =:= late_connect],
    [wait_until(fun() -> view(Node, Scope) end,
                fun(View) -> lists:sort([Items || {_, Items} <- maps:values(View)]) =:= [[1], [1], [1]] end)
     || Node <- Nodes],
    [update(Node, Scope, {Format, N}) || {Node, Format} <- [{A, old}, {B, new}, {C, new}], N <- [2, 3]],
    [wait_until(fun() -> view(Node, Scope) end,
                fun(View) -> lists:all(fun({_, Items}) -> Items =:= [1, 2, 3] end, maps:values(View)) end)
     || Node <- Nodes],
    ?assertEqual(#{name(A) => {old, [1, 2, 3]}, name(B) => {new, [1, 2, 3]}, name(C) => {new, [1, 2, 3]}},
                 view(B, Scope)),
    Untranslated = call(A, dp_sample, view, [Scope, new]),
    Asked = lists:usort([Translation || Node <- Nodes,
                                        Translation <- call(Node, dp_sample, view, [Scope, translations])]),
    case is_own() of
        true ->
            ?assertEqual([], Untranslated),
            %% Never a version that is higher than its own.
            ?assertEqual([{Old, Old}, {New, Old}, {New, New}], Asked);
        false ->
            %% The newer ones think that the older one is of their version.
            ?assertMatch([_ | _], Untranslated)
    end.
