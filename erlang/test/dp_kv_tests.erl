-module(dp_kv_tests).

-include_lib("stdlib/include/assert.hrl").

-export([cluster_test_/0]).
-export([tests/0, subscribe_put_unsubscribe/1]).
-import(dp_test, [call/4, name/1, scope/0, wait_until/2]).

cluster_test_() ->
    {setup,
     fun() -> dp_test:start_nodes(3) end,
     fun dp_test:stop_nodes/1,
     fun(Nodes) -> [{Title, {timeout, 60, fun() -> Test(Nodes) end}} || {Title, Test} <- tests()] end}.

tests() ->
    [{"what one node puts, all nodes see", fun puts/1},
     {"each owner's value is kept", fun owners/1},
     {"what is read of one node is its value, the default or badkey", fun reads/1},
     {"many at once are one update", fun many/1},
     {"a key of -0.0 is one of 0.0", fun zeros/1},
     {"a node that comes late sees all", fun late/1},
     {"a node that dies takes its keys along", fun death/1},
     {"keys go with a connection and come with the next", fun reconnect/1},
     {"a scope that is killed comes back with its node's keys", fun killed/1},
     {"a scope that stops leaves its keys for the next one, unless told to forget", fun stopped/1},
     {"the end of an older process of a node changes nothing", fun two_of_a_node/1},
     {"if the younger process of a node ends first, the older one's data is back", fun younger_first/1},
     {"updates before the local data change nothing", fun early/1},
     {"what came before the younger process's data is its predecessor's", fun early_and_two/1},
     {"a subscriber's first result and events make the view", fun subscribers/1},
     {"a subscriber of a key hears of that key alone", fun subscriber_of_key/1},
     {"what changes nothing is no event", fun no_change/1},
     {"no event is left after unsubscribing", fun unsubscribe/1},
     {"a subscriber of another node is served and forgotten", fun remote_subscriber/1},
     {"a standalone scope is alone", fun standalone/1},
     {"what nobody can read does no harm", fun unreadable/1},
     {"a name that is taken by a table is refused", fun taken/1}].

start(Scope, Nodes) ->
    [{ok, _} = call(Node, dp_kv, start, [Scope]) || Node <- Nodes],
    ok.

all(Node, Scope) ->
    call(Node, dp_kv, get_all, [Scope]).

%% On each node.
see(Nodes, Scope, Expected) ->
    [wait_until(fun() -> all(Node, Scope) end, Expected) || Node <- Nodes],
    ok.

kv(Node, Function, Args) ->
    ok = call(Node, dp_kv, Function, Args).

puts([A, B, C] = Nodes) ->
    Scope = scope(),
    start(Scope, Nodes),
    kv(A, put, [Scope, k, 1]),
    ?assertEqual(#{name(A) => 1}, call(A, dp_kv, get, [Scope, k])),
    see(Nodes, Scope, #{k => #{name(A) => 1}}),
    kv(B, put, [Scope, {"any", #{term => <<1>>}}, [make_ref]]),
    kv(A, put, [Scope, k, 2]),
    see(Nodes, Scope, #{k => #{name(A) => 2}, {"any", #{term => <<1>>}} => #{name(B) => [make_ref]}}),
    kv(A, delete, [Scope, k]),
    ?assertEqual(#{}, call(A, dp_kv, get, [Scope, k])),
    see([C, B, A], Scope, #{{"any", #{term => <<1>>}} => #{name(B) => [make_ref]}}),
    kv(B, delete, [Scope, {"any", #{term => <<1>>}}]),
    see(Nodes, Scope, #{}).

owners([A, B, C] = Nodes) ->
    Scope = scope(),
    start(Scope, Nodes),
    [kv(Node, put, [Scope, k, name(Node)]) || Node <- Nodes],
    kv(B, delete, [Scope, k]),
    see(Nodes, Scope, #{k => #{name(A) => name(A), name(C) => name(C)}}),
    %% 1 and 1.0 are two keys.
    kv(A, put_all, [Scope, #{1 => integer, 1.0 => float}]),
    see(Nodes, Scope, #{k => #{name(A) => name(A), name(C) => name(C)},
                        1 => #{name(A) => integer}, 1.0 => #{name(A) => float}}).

reads([A, B, _] = Nodes) ->
    Scope = scope(),
    start(Scope, Nodes),
    kv(A, put, [Scope, k, 1]),
    see(Nodes, Scope, #{k => #{name(A) => 1}}),
    ?assertEqual(1, call(B, dp_kv, get, [Scope, k, name(A)])),
    ?assertEqual(default, call(B, dp_kv, get, [Scope, k, name(B), default])),
    ?assertEqual(default, call(B, dp_kv, get, [Scope, other, name(A), default])),
    ?assertError({badkey, k}, call(B, dp_kv, get, [Scope, k, name(B)])),
    ?assertError(badarg, call(B, dp_kv, get, [scope(), k])).

many([A, B, _] = Nodes) ->
    Scope = scope(),
    start(Scope, Nodes),
    {Collector, Ref, #{}} = call(B, dp_test, subscriber, [dp_kv, Scope, all]),
    kv(A, put_all, [Scope, [{a, 1}, {b, 1}, {a, 2}]]),
    see(Nodes, Scope, #{a => #{name(A) => 2}, b => #{name(A) => 1}}),
    From = name(A),
    ?assertEqual([{Ref, put, From, a, 1}, {Ref, put, From, b, 1}, {Ref, put, From, a, 2}],
                 call(B, dp_test, messages, [Collector])),
    kv(A, put_all, [Scope, #{a => 3, b => 3}]),
    see(Nodes, Scope, #{a => #{name(A) => 3}, b => #{name(A) => 3}}).

zeros([A, B, _] = Nodes) ->
    Scope = scope(),
    start(Scope, Nodes),
    Zero = call(A, erlang, '-', [0.0]),
    Key = fun(Float) -> {[x, Float | Float], #{Float => Float}} end,
    kv(A, put, [Scope, Key(Zero), 1]),
    Value = #{name(A) => 1},
    see(Nodes, Scope, #{Key(0.0) => Value}),
    %% Here it's told from the other, on releases that can.
    [Positive] = maps:keys(all(B, Scope)),
    ?assertEqual(term_to_binary(Key(0.0)), term_to_binary(Positive)),
    ?assertEqual(Value, call(B, dp_kv, get, [Scope, Key(Zero)])),
    {Collector, Ref, Value} = call(B, dp_test, subscriber, [dp_kv, Scope, {key, Key(Zero)}]),
    %% Also when another node asks, in raw terms.
    ok = call(B, gen_server, call, [{Scope, name(A)}, {update, [{delete, Key(Zero)}]}]),
    see(Nodes, Scope, #{}),
    wait_until(fun() -> call(B, dp_test, messages, [Collector]) end,
               [{Ref, delete, name(A), Positive}]).

late([A, B, C] = Nodes) ->
    Scope = scope(),
    start(Scope, [A]),
    kv(A, put, [Scope, k, 1]),
    start(Scope, [B]),
    see([A, B], Scope, #{k => #{name(A) => 1}}),
    kv(B, put, [Scope, k, 2]),
    start(Scope, [C]),
    see(Nodes, Scope, #{k => #{name(A) => 1, name(B) => 2}}).

death([A, B, _] = Nodes) ->
    Scope = scope(),
    D = dp_test:start_node([], Nodes),
    start(Scope, [D | Nodes]),
    kv(D, put, [Scope, d, 1]),
    kv(D, put, [Scope, k, 1]),
    kv(A, put, [Scope, k, 2]),
    see([D | Nodes], Scope, #{d => #{name(D) => 1}, k => #{name(D) => 1, name(A) => 2}}),
    {Collector, Ref, _} = call(B, dp_test, subscriber, [dp_kv, Scope, all]),
    dp_test:stop_node(D),
    see(Nodes, Scope, #{k => #{name(A) => 2}}),
    ?assertEqual([{Ref, delete, name(D), d}, {Ref, delete, name(D), k}],
                 lists:sort(call(B, dp_test, messages, [Collector]))).

reconnect([A, B, C] = Nodes) ->
    Scope = scope(),
    start(Scope, Nodes),
    [kv(Node, put, [Scope, k, name(Node)]) || Node <- Nodes],
    Everything = #{k => maps:from_list([{name(Node), name(Node)} || Node <- Nodes])},
    see(Nodes, Scope, Everything),
    dp_test:disconnect(A, B),
    see([A], Scope, #{k => #{name(A) => name(A), name(C) => name(C)}}),
    see([B], Scope, #{k => #{name(B) => name(B), name(C) => name(C)}}),
    see([C], Scope, Everything),
    kv(A, put, [Scope, while_apart, 1]),
    kv(B, delete, [Scope, k]),
    dp_test:connect(A, B),
    see(Nodes, Scope, #{k => #{name(A) => name(A), name(C) => name(C)},
                        while_apart => #{name(A) => 1}}).

killed([A, B, _] = Nodes) ->
    Scope = scope(),
    start(Scope, tl(Nodes)),
    Supervisor = call(A, dp_test, start_supervised, [[call(A, dp_kv, child_spec, [Scope])]]),
    [kv(Node, put, [Scope, k, name(Node)]) || Node <- Nodes],
    kv(A, put_all, [Scope, maps:from_list([{N, N} || N <- lists:seq(1, 100)])]),
    kv(A, delete, [Scope, 50]),
    Everything = all(A, Scope),
    ?assertEqual(100, map_size(Everything)),
    see(Nodes, Scope, #{} = maps:put(k, maps:from_list([{name(N), name(N)} || N <- Nodes]), Everything)),
    lists:foreach(
        fun(N) ->
            call(A, dp_test, stop, [Scope]),
            %% The own keys never went.
            ?assertMatch(#{}, call(A, dp_kv, get, [Scope, 1])),
            ?assertEqual(1, call(A, dp_kv, get, [Scope, 1, name(A)])),
            wait_until(fun() -> kv(A, put, [Scope, restarted, N]) end, ok),
            wait_until(fun() -> call(B, dp_kv, get, [Scope, restarted]) end, #{name(A) => N}),
            see(Nodes, Scope, (all(B, Scope))#{restarted := #{name(A) => N}})
        end,
        lists:seq(1, 5)),
    see(Nodes, Scope, maps:merge(
        Everything,
        #{k => maps:from_list([{name(N), name(N)} || N <- Nodes]), restarted => #{name(A) => 5}})),
    call(A, dp_test, stop, [Supervisor]).

stopped([A, B, _] = Nodes) ->
    Scope = scope(),
    start(Scope, Nodes),
    kv(A, put, [Scope, a, 1]),
    kv(B, put, [Scope, b, 1]),
    Everything = #{a => #{name(A) => 1}, b => #{name(B) => 1}},
    see(Nodes, Scope, Everything),
    ok = call(A, gen_server, stop, [Scope]),
    see(tl(Nodes), Scope, #{b => #{name(B) => 1}}),
    %% It doesn't hear of the others any more.
    ?assertEqual(#{a => #{name(A) => 1}}, all(A, Scope)),
    start(Scope, [A]),
    see(Nodes, Scope, Everything),
    ok = call(A, dp_kv, stop, [Scope]),
    ?assertError(badarg, all(A, Scope)),
    start(Scope, [A]),
    see(Nodes, Scope, #{b => #{name(B) => 1}}).

%% Says as a peer's process what a scope says.
say(Node, Process, To, Message) ->
    _ = call(Node, dp_test, apply_in, [Process, erlang, send, [To, Message]]),
    ok.

%% A process of node B that the scope of node A takes for a peer.
peer_of(Scope, A, B, Data) ->
    Peer = call(B, dp_test, collector, []),
    say(B, Peer, {Scope, name(A)}, {discover, Peer, 1}),
    say(B, Peer, {Scope, name(A)}, {'$gen_cast', {local_data, Peer, 1, Data}}),
    Peer.

two_of_a_node([A, B, _]) ->
    Scope = scope(),
    start(Scope, [A]),
    {Collector, Ref, _} = call(A, dp_test, subscriber, [dp_kv, Scope, all]),
    N = name(B),
    Old = peer_of(Scope, A, B, #{same => 1, other => 1, gone => 1}),
    see([A], Scope, #{same => #{N => 1}, other => #{N => 1}, gone => #{N => 1}}),
    Young = peer_of(Scope, A, B, #{same => 1, other => 2, new => 1}),
    see([A], Scope, #{same => #{N => 1}, other => #{N => 2}, new => #{N => 1}}),
    say(B, Young, {Scope, name(A)}, {update, Young, [{put, new, 2}]}),
    see([A], Scope, #{same => #{N => 1}, other => #{N => 2}, new => #{N => 2}}),
    call(B, dp_test, stop, [Old]),
    say(B, Young, {Scope, name(A)}, {update, Young, [{put, last, 1}]}),
    see([A], Scope, #{same => #{N => 1}, other => #{N => 2}, new => #{N => 2}, last => #{N => 1}}),
    Events = call(A, dp_test, messages, [Collector]),
    ?assertEqual([{Ref, put, N, new, 1}, {Ref, put, N, new, 2}],
                 [Event || {_, _, _, new, _} = Event <- Events]),
    ?assertEqual([{Ref, put, N, same, 1}], [Event || Event <- Events, element(4, Event) =:= same]),
    call(B, dp_test, stop, [Young]),
    see([A], Scope, #{}).

younger_first([A, B, _]) ->
    Scope = scope(),
    start(Scope, [A]),
    N = name(B),
    Old = peer_of(Scope, A, B, #{a => 1, b => 1}),
    Young = peer_of(Scope, A, B, #{b => 2, c => 2}),
    see([A], Scope, #{b => #{N => 2}, c => #{N => 2}}),
    call(B, dp_test, stop, [Young]),
    see([A], Scope, #{a => #{N => 1}, b => #{N => 1}}),
    call(B, dp_test, stop, [Old]),
    see([A], Scope, #{}).

early([A, B, _]) ->
    Scope = scope(),
    start(Scope, [A]),
    To = {Scope, name(A)},
    {Collector, Ref, #{}} = call(A, dp_test, subscriber, [dp_kv, Scope, all]),
    Peer = call(B, dp_test, collector, []),
    say(B, Peer, To, {discover, Peer, 1}),
    say(B, Peer, To, {update, Peer, [{put, a, 1}]}),
    say(B, Peer, To, {'$gen_cast', {local_data, Peer, 1, #{a => 1}}}),
    say(B, Peer, To, {update, Peer, [{delete, a}]}),
    wait_until(fun() -> call(A, dp_test, messages, [Collector]) end,
               [{Ref, put, name(B), a, 1}, {Ref, delete, name(B), a}]),
    call(B, dp_test, stop, [Peer]).

%% The update of the younger one came before its data; that will hold it.
early_and_two([A, B, _]) ->
    Scope = scope(),
    start(Scope, [A]),
    N = name(B),
    To = {Scope, name(A)},
    Old = peer_of(Scope, A, B, #{a => 1}),
    Young = call(B, dp_test, collector, []),
    say(B, Young, To, {discover, Young, 1}),
    say(B, Young, To, {update, Young, [{put, b, 1}]}),
    say(B, Young, To, {'$gen_cast', {local_data, Young, 1, #{b => 1}}}),
    see([A], Scope, #{b => #{N => 1}}),
    call(B, dp_test, stop, [Old]),
    say(B, Young, To, {update, Young, [{put, c, 1}]}),
    see([A], Scope, #{b => #{N => 1}, c => #{N => 1}}),
    call(B, dp_test, stop, [Young]),
    see([A], Scope, #{}).

%% What a subscriber of everything knows.
followed(Initial, Ref, Events) ->
    lists:foldl(
        fun({R, put, Node, Key, Value}, All) when R =:= Ref ->
                Owners = maps:get(Key, All, #{}),
                All#{Key => Owners#{Node => Value}};
           ({R, delete, Node, Key}, All) when R =:= Ref ->
                #{Key := #{Node := _} = Owners} = All,
                case maps:remove(Node, Owners) of
                    Left when Left =:= #{} -> maps:remove(Key, All);
                    Left -> All#{Key := Left}
                end
        end,
        Initial, Events).

subscribers([A, B, C] = Nodes) ->
    Scope = scope(),
    start(Scope, Nodes),
    kv(A, put, [Scope, before, 1]),
    see(Nodes, Scope, #{before => #{name(A) => 1}}),
    Subscribers = [{Node, call(Node, dp_test, subscriber, [dp_kv, Scope, all])} || Node <- Nodes],
    [kv(Node, put, [Scope, N rem 7, {N, name(Node)}]) || N <- lists:seq(1, 30), Node <- Nodes],
    [kv(Node, delete, [Scope, N]) || N <- [0, 1, 2], Node <- [A, C]],
    call(B, dp_test, stop, [Scope]),
    start(Scope, [B]),
    kv(B, put, [Scope, last, 1]),
    Last = wait_until(fun() -> all(A, Scope) end, fun(All) -> is_map_key(last, All) end),
    see(Nodes, Scope, Last),
    [wait_until(fun() -> followed(Initial, Ref, call(Node, dp_test, messages, [Collector])) end, Last)
     || {Node, {Collector, Ref, Initial}} <- Subscribers, Node =/= B].

subscriber_of_key([A, B, _] = Nodes) ->
    Scope = scope(),
    start(Scope, Nodes),
    kv(A, put, [Scope, k, 1]),
    see(Nodes, Scope, #{k => #{name(A) => 1}}),
    {Collector, Ref, Initial} = call(B, dp_test, subscriber, [dp_kv, Scope, {key, k}]),
    ?assertEqual(#{name(A) => 1}, Initial),
    {_, _, #{}} = call(B, dp_test, subscriber, [dp_kv, Scope, {key, other}]),
    kv(A, put, [Scope, other, 1]),
    kv(A, put, [Scope, k, 2]),
    kv(A, delete, [Scope, k]),
    wait_until(fun() -> call(B, dp_test, messages, [Collector]) end,
               [{Ref, put, name(A), k, 2}, {Ref, delete, name(A), k}]).

no_change([A, B, _] = Nodes) ->
    Scope = scope(),
    start(Scope, Nodes),
    kv(A, put, [Scope, k, 1]),
    see(Nodes, Scope, #{k => #{name(A) => 1}}),
    Subscribers = [{Node, call(Node, dp_test, subscriber, [dp_kv, Scope, all])} || Node <- [A, B]],
    kv(A, put, [Scope, k, 1]),
    kv(A, delete, [Scope, none]),
    kv(A, put_all, [Scope, []]),
    kv(A, put, [Scope, k, 2]),
    [wait_until(fun() -> call(Node, dp_test, messages, [Collector]) end, [{Ref, put, name(A), k, 2}])
     || {Node, {Collector, Ref, _}} <- Subscribers].

unsubscribe([A, _, _] = Nodes) ->
    Scope = scope(),
    start(Scope, Nodes),
    ?assertEqual({message_queue_len, 0}, call(A, ?MODULE, subscribe_put_unsubscribe, [Scope])).

subscribe_put_unsubscribe(Scope) ->
    {Ref, #{}} = dp_kv:subscribe(Scope),
    ok = dp_kv:put_all(Scope, #{a => 1, b => 1}),
    ok = dp_kv:delete(Scope, a),
    {message_queue_len, 3} = process_info(self(), message_queue_len),
    ok = dp_kv:unsubscribe(Scope, Ref),
    ok = dp_kv:put(Scope, a, 2),
    process_info(self(), message_queue_len).

remote_subscriber([A, B, _] = Nodes) ->
    Scope = scope(),
    start(Scope, Nodes),
    At = {Scope, name(A)},
    {Collector, Ref, #{}} = call(B, dp_test, subscriber, [data_publisher, At, {key, k}]),
    ok = call(B, data_publisher, update, [At, [{put, k, 1}]]),
    Events = fun() -> call(B, dp_test, messages, [Collector]) end,
    wait_until(Events, [{Ref, put, name(A), k, 1}]),
    ok = call(B, data_publisher, unsubscribe, [At, Ref]),
    ok = call(B, data_publisher, unsubscribe, [At, Ref]),
    {Other, _, #{}} = call(B, dp_test, subscriber, [data_publisher, At, all]),
    Before = watched(A, Scope),
    call(B, dp_test, stop, [Other]),
    wait_until(fun() -> watched(A, Scope) end, Before - 1),
    kv(A, put, [Scope, k, 2]),
    see(Nodes, Scope, #{k => #{name(A) => 2}}),
    ?assertEqual([{Ref, put, name(A), k, 1}], Events()).

%% How many processes the scope monitors.
watched(Node, Scope) ->
    Pid = call(Node, erlang, whereis, [Scope]),
    {monitors, Monitors} = call(Node, erlang, process_info, [Pid, monitors]),
    length(Monitors).

standalone([A, B, _]) ->
    Scope = scope(),
    {ok, _} = call(A, dp_kv, start, [Scope, #{standalone => true}]),
    start(Scope, [B]),
    kv(A, put, [Scope, a, 1]),
    kv(B, put, [Scope, b, 1]),
    dp_test:disconnect(A, B),
    dp_test:connect(A, B),
    %% B has greeted A, and A has had the time to answer, when A has answered this.
    {_, _, _} = call(B, dp_test, subscriber, [data_publisher, {Scope, name(A)}, all]),
    ?assertEqual(#{b => #{name(B) => 1}}, all(B, Scope)),
    ?assertEqual(#{a => #{name(A) => 1}}, all(A, Scope)).

unreadable([A, B, _]) ->
    Scope = scope(),
    start(Scope, [A]),
    kv(A, put, [Scope, own, 1]),
    Process = call(A, erlang, whereis, [Scope]),
    Peer = peer_of(Scope, A, B, #{k => 1}),
    see([A], Scope, #{own => #{name(A) => 1}, k => #{name(B) => 1}}),
    [begin
         %% Whatever becomes of it, the next local data is right again.
         say(B, Peer, {Scope, name(A)}, Message),
         say(B, Peer, {Scope, name(A)}, {local_data, Peer, 1, #{n => N}}),
         see([A], Scope, #{own => #{name(A) => 1}, n => #{name(B) => N}})
     end
     || {N, Message} <- lists:zip(
            lists:seq(1, 7),
            [{update, Peer, Update}
             || Update <- [x, [{put, a}], [{put, a, 1} | x], [{put, a, 1}, {put, a}], {join, #{}}, #{}]]
            ++ [{local_data, Peer, 1, [not_a_map]}])],
    [wait_until(fun() -> catch_call(A, Scope, Request) end, fun(Answer) -> Answer =/= crashed end)
     || Request <- [{update, x}, {update, [{put, a, 1} | x]}, {subscribe, {key}}]],
    ?assertEqual(#{own => #{name(A) => 1}, n => #{name(B) => 7}}, all(A, Scope)),
    ?assertEqual(Process, call(A, erlang, whereis, [Scope])).

catch_call(Node, Scope, Request) ->
    try call(Node, gen_server, call, [Scope, Request])
    catch exit:_ -> crashed
    end.

taken([A, _, _]) ->
    Scope = scope(),
    Holder = call(A, dp_test, collector, []),
    Scope = call(A, dp_test, apply_in, [Holder, ets, new, [Scope, [named_table]]]),
    ?assertMatch({error, {badarg, _}}, call(A, dp_kv, start, [Scope])),
    call(A, dp_test, stop, [Holder]),
    start(Scope, [A]).
