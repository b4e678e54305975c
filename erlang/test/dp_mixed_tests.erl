%% Releases with our behaviour and OTP 29 with its own, in one scope. The nodes, one of each release, are
%% named in DP_MIXED_NODES; scripts/erlang starts them.
-module(dp_mixed_tests).

-include_lib("stdlib/include/assert.hrl").

-export([mixed_test_/0]).
-import(dp_test, [call/4, scope/0, wait_until/2]).

mixed_test_() ->
    case os:getenv("DP_MIXED_NODES") of
        false -> [];
        Names -> mixed_test_(string:lexemes(Names, " "))
    end.

mixed_test_(Names) ->
    {setup,
     fun() -> setup([list_to_atom(Name) || Name <- Names]) end,
     fun(Nodes) -> [erpc:cast(Node, erlang, halt, [0]) || Node <- Nodes] end,
     fun(Nodes) -> [{Title, {timeout, 60, fun() -> Test(Nodes) end}} || {Title, Test} <- tests(Nodes)] end}.

setup(Nodes) ->
    %% Hidden: a scope sees nothing of the node that tests it.
    application:set_env(kernel, inet_dist_use_interface, {127, 0, 0, 1}),
    Name = list_to_atom("dp" ++ os:getpid() ++ "@127.0.0.1"),
    {ok, _} = net_kernel:start(Name, #{name_domain => longnames, hidden => true}),
    true = erlang:set_cookie(dp),
    [wait_until(fun() -> net_kernel:connect_node(Node) end, true) || Node <- Nodes],
    dp_test:connect(Nodes),
    Nodes.

tests(Nodes) ->
    [{"keys and values of all releases meet", fun keys/1},
     {"a scope that restarts loses nothing, on no release", fun restarts/1},
     {"subscribers are served by other releases", fun subscribers/1}]
    ++ [{lists:concat(["version 1 on ", Old, " and 2 on the others, ", Order]),
         fun(_) -> versions(Old, Nodes -- [Old], Order) end}
        || Old <- Nodes, Order <- [old_first, new_first, late_connect]]
    ++ [{lists:concat(["version 2 on ", New, " and 1 on the others, ", Order]),
         fun(_) -> upgrade(Nodes -- [New], New, Order) end}
        || New <- Nodes, Order <- [old_first, new_first, late_connect]].

see(Nodes, Scope, Expected) ->
    [wait_until(fun() -> call(Node, dp_kv, get_all, [Scope]) end, Expected) || Node <- Nodes],
    ok.

keys(Nodes) ->
    Scope = scope(),
    [{ok, _} = call(Node, dp_kv, start, [Scope]) || Node <- Nodes],
    [ok = call(Node, dp_kv, put, [Scope, k, N]) || Node <- Nodes, N <- [1, 2, 3]],
    [ok = call(Node, dp_kv, put_all, [Scope, #{{own, Node} => x, gone => y}]) || Node <- Nodes],
    [ok = call(Node, dp_kv, delete, [Scope, gone]) || Node <- Nodes],
    see(Nodes, Scope, maps:from_list([{k, maps:from_list([{Node, 3} || Node <- Nodes])}
                                      | [{{own, Node}, #{Node => x}} || Node <- Nodes]])),
    [ok = call(Node, dp_kv, stop, [Scope]) || Node <- tl(Nodes)],
    see([hd(Nodes)], Scope, #{k => #{hd(Nodes) => 3}, {own, hd(Nodes)} => #{hd(Nodes) => x}}).

restarts(Nodes) ->
    Scope = scope(),
    [{ok, _} = call(Node, dp_kv, start, [Scope]) || Node <- Nodes],
    [ok = call(Node, dp_kv, put, [Scope, N, N]) || Node <- Nodes, N <- lists:seq(1, 20)],
    Everything = maps:from_list([{N, maps:from_list([{Node, N} || Node <- Nodes])}
                                 || N <- lists:seq(1, 20)]),
    see(Nodes, Scope, Everything),
    [begin
         call(Node, dp_test, stop, [Scope]),
         {ok, _} = call(Node, dp_kv, start, [Scope]),
         see(Nodes, Scope, Everything)
     end || _ <- [1, 2, 3], Node <- Nodes].

subscribers(Nodes) ->
    Scope = scope(),
    [{ok, _} = call(Node, dp_kv, start, [Scope]) || Node <- Nodes],
    Pairs = [{Node, Other} || Node <- Nodes, Other <- Nodes, Node =/= Other],
    Subscribers = [{Node, call(Node, dp_test, subscriber, [data_publisher, {Scope, Other}, {key, k}])}
                   || {Node, Other} <- Pairs],
    Owner = hd(Nodes),
    ok = call(Owner, dp_kv, put, [Scope, k, 1]),
    ok = call(Owner, dp_kv, delete, [Scope, k]),
    [wait_until(fun() -> call(Node, dp_test, messages, [Collector]) end,
                [{Ref, put, Owner, k, 1}, {Ref, delete, Owner, k}])
     || {Node, {Collector, Ref, Initial}} <- Subscribers, Initial =:= #{}].

versions(Old, News, Order) ->
    mixed([Old], News, Order).

upgrade(Olds, New, Order) ->
    mixed(Olds, [New], Order).

mixed(Olds, News, Order) ->
    Scope = scope(),
    Nodes = Olds ++ News,
    Apart = [{Old, New} || Old <- Olds, New <- News, Order =:= late_connect],
    [dp_test:disconnect(Old, New) || {Old, New} <- Apart],
    StartOld = fun() -> [start(Node, Scope, #{version => 1, format => old}) || Node <- Olds] end,
    StartNew = fun() -> [start(Node, Scope, #{version => 2, format => new}) || Node <- News] end,
    case Order of
        new_first -> StartNew(), StartOld();
        _ -> StartOld(), StartNew()
    end,
    [update(Node, Scope, Olds, 1) || Node <- Nodes],
    [dp_test:connect(Old, New) || {Old, New} <- Apart],
    have(Nodes, Scope, [1], length(Nodes)),
    [update(Node, Scope, Olds, N) || N <- [2, 3], Node <- Nodes],
    have(Nodes, Scope, [1, 2, 3], length(Nodes)),
    [?assertEqual([], call(Node, dp_sample, view, [Scope, new])) || Node <- Olds],
    [?assertEqual(maps:from_list([{Node, {format(Node, Olds), [1, 2, 3]}} || Node <- Nodes]), view(At, Scope))
     || At <- News].

start(Node, Scope, Settings) ->
    ok = call(Node, dp_sample, set, [Scope, Settings]),
    {ok, _} = call(Node, data_publisher, start, [Scope, dp_sample]).

update(Node, Scope, Olds, Item) ->
    ok = call(Node, data_publisher, update, [Scope, {format(Node, Olds), Item}]).

format(Node, Olds) ->
    case lists:member(Node, Olds) of
        true -> old;
        false -> new
    end.

view(Node, Scope) ->
    call(Node, dp_sample, view, [Scope]).

have(Nodes, Scope, Items, Count) ->
    [wait_until(fun() -> [Of || {_, Of} <- maps:values(view(Node, Scope))] end,
                lists:duplicate(Count, Items)) || Node <- Nodes],
    ok.
