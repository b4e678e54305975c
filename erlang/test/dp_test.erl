%% What the tests share: nodes, processes on them, waiting; and a runner for releases that come without EUnit.
%%
%% Nodes are started with peer and controlled over their standard input and output, so that the distribution,
%% which is what's tested, is left alone: a node is connected only with those it was told to connect with.
-module(dp_test).
-behaviour(supervisor).

-export([main/1]).
-export([is_own/0, scope/0, start_nodes/1, start_node/1, start_node/2, stop_node/1, stop_nodes/1]).
-export([name/1, call/4, connect/1, connect/2, disconnect/2, wait_until/2, wait_until/3]).
-export([subscriber/3, collector/0, messages/1, apply_in/4, stop/1, register_as/1]).
-export([start_supervised/1, init/1]).

%% How long anything may take, in milliseconds, and how long one look waits for the next.
-define(PATIENCE, 20_000).
-define(PAUSE, 5).

-record(node, {peer :: pid(), name :: node()}).

%%% The runner

%% Runs test modules, prints what fails, and gives the numbers of tests and of failures.
%%
%% Of EUnit's ways to say what a test is it knows those used here: functions `..._test', and `..._test_' that
%% give `[]' or `{setup, Setup, Cleanup, fun((Fixture) -> [{Title, {timeout, Seconds, Test}}])}'.
main(Modules) ->
    Results = [Result || Module <- Modules, {Name, 0} <- Module:module_info(exports),
                         Result <- run(Module, Name, lists:reverse(atom_to_list(Name)))],
    {length(Results), length([failed || failed <- Results])}.

run(Module, Name, "tset_" ++ _) ->
    [test(Module, atom_to_list(Name), fun Module:Name/0)];
run(Module, Name, "_tset_" ++ _) ->
    case Module:Name() of
        {setup, Setup, Cleanup, Tests} ->
            Fixture = Setup(),
            try [test(Module, Title, Test) || {Title, {timeout, _, Test}} <- Tests(Fixture)]
            after Cleanup(Fixture)
            end;
        [] ->
            []
    end;
run(_Module, _Name, _) ->
    [].

test(Module, Title, Test) ->
    Started = erlang:monotonic_time(millisecond),
    %% A process of its own: nothing in its mailbox, and it can be given up.
    {Pid, Monitor} = spawn_monitor(fun() -> Test(), exit(passed) end),
    Reason =
        receive {'DOWN', Monitor, process, Pid, Why} -> Why
        after 3 * ?PATIENCE ->
            Where = process_info(Pid, current_stacktrace),
            exit(Pid, kill),
            {too_long, Where}
        end,
    Time = erlang:monotonic_time(millisecond) - Started,
    case Reason of
        passed when Time < 5_000 ->
            passed;
        passed ->
            io:format("~s: ~ts took ~w ms~n", [Module, Title, Time]),
            passed;
        _ ->
            io:format("~s: ~ts FAILED~n    ~tp~n", [Module, Title, Reason]),
            failed
    end.

%%% Nodes

%% Whether the behaviour is the one of this application, not OTP's.
is_own() ->
    list_to_integer(erlang:system_info(otp_release)) < 29.

%% A name for a scope that nobody has used.
scope() ->
    list_to_atom("scope" ++ integer_to_list(erlang:unique_integer([positive]))).

start_nodes(Count) ->
    Nodes = [start_node([]) || _ <- lists:seq(1, Count)],
    connect(Nodes),
    Nodes.

start_node(Args) ->
    start_node(Args, []).

start_node(Args, To) ->
    Name = lists:concat(["dp", os:getpid(), "x", erlang:unique_integer([positive])]),
    {ok, Peer, Node} = peer:start(#{
        name => Name, host => "127.0.0.1", longnames => true, connection => standard_io,
        args => Args ++ ["-setcookie", "dp", "-connect_all", "false", "-start_epmd", start_epmd(),
                         "-kernel", "inet_dist_use_interface", "{127,0,0,1}",
                         "-kernel", "logger_level", "critical",
                         "-kernel", "prevent_overlapping_partitions", "false",
                         "-pa", filename:dirname(code:which(?MODULE))
                         | [Arg || Path <- own_paths(), Arg <- ["-pa", Path]]]
    }),
    Started = #node{peer = Peer, name = Node},
    [connect(Started, Other) || Other <- To],
    Started.

own_paths() ->
    lists:usort([filename:dirname(Path) || Module <- [dp_kv | [data_publisher || is_own()]],
                                           Path <- [code:which(Module)]]).

%% Who gives a port for EPMD has started one.
start_epmd() ->
    case os:getenv("ERL_EPMD_PORT") of
        false -> "true";
        _ -> "false"
    end.

%% Like a power failure.
stop_node(#node{peer = Peer} = Node) ->
    try call(Node, erlang, halt, [0, [{flush, false}]]) catch _:_ -> ok end,
    try peer:stop(Peer) catch _:_ -> ok end,
    ok.

stop_nodes(Nodes) ->
    lists:foreach(fun stop_node/1, Nodes).

name(#node{name = Name}) ->
    Name;
name(Name) ->
    Name.

%% A node that isn't ours is called over the distribution.
call(#node{peer = Peer}, Module, Function, Args) ->
    peer:call(Peer, Module, Function, Args, ?PATIENCE);
call(Name, Module, Function, Args) ->
    erpc:call(Name, Module, Function, Args, ?PATIENCE).

connect([Node | Others]) ->
    [connect(Node, Other) || Other <- Others],
    connect(Others);
connect([]) ->
    ok.

%% Both see it when it returns; a scope there has been told.
connect(Node, Other) ->
    true = call(Node, net_kernel, connect_node, [name(Other)]),
    wait_until(fun() -> call(Other, erlang, nodes, [connected]) end,
               fun(Nodes) -> lists:member(name(Node), Nodes) end).

disconnect(Node, Other) ->
    true = call(Node, erlang, disconnect_node, [name(Other)]),
    wait_until(fun() -> call(Other, erlang, nodes, [connected]) end,
               fun(Nodes) -> not lists:member(name(Node), Nodes) end).

%%% Waiting

wait_until(Look, Expected) when not is_function(Expected) ->
    wait_until(Look, fun(Seen) -> Seen =:= Expected end, Expected);
wait_until(Look, IsDone) ->
    wait_until(Look, IsDone, {satisfying, IsDone}).

wait_until(Look, IsDone, Expected) ->
    wait_until(Look, IsDone, Expected, erlang:monotonic_time(millisecond) + ?PATIENCE).

wait_until(Look, IsDone, Expected, Deadline) ->
    Seen = try Look() catch Class:Reason -> {Class, Reason} end,
    case IsDone(Seen) of
        true ->
            Seen;
        false ->
            erlang:monotonic_time(millisecond) < Deadline
                orelse error({expected, Expected, last_seen, Seen}),
            receive after ?PAUSE -> wait_until(Look, IsDone, Expected, Deadline) end
    end.

%%% Processes; these run on the nodes, by call/4

%% A process that keeps the messages it gets.
collector() ->
    spawn(fun() -> collect([]) end).

collect(Messages) ->
    receive
        {?MODULE, From, Ref, messages} ->
            From ! {Ref, lists:reverse(Messages)},
            collect(Messages);
        {?MODULE, From, Ref, {Module, Function, Args}} ->
            From ! {Ref, apply(Module, Function, Args)},
            collect(Messages);
        Message ->
            collect([Message | Messages])
    end.

%% What a collector got so far.
messages(Collector) ->
    ask(Collector, messages).

%% Has a collector call a function.
apply_in(Collector, Module, Function, Args) ->
    ask(Collector, {Module, Function, Args}).

ask(Collector, Request) ->
    Ref = monitor(process, Collector),
    Collector ! {?MODULE, self(), Ref, Request},
    receive
        {Ref, Answer} -> demonitor(Ref, [flush]), Answer;
        {'DOWN', Ref, process, _, Reason} -> exit(Reason)
    end.

%% A collector that has subscribed: `{Collector, Ref, Result}'.
subscriber(Module, Scope, Subscription) ->
    Collector = collector(),
    {Ref, Result} = apply_in(Collector, Module, subscribe, [Scope, Subscription]),
    {Collector, Ref, Result}.

%% A collector under a name.
register_as(Name) ->
    Collector = collector(),
    register(Name, Collector),
    Collector.

%% Ends a process, and returns when all of it is gone.
stop(Process) ->
    Monitor = monitor(process, Process),
    exit(case Process of _ when is_atom(Process) -> whereis(Process); _ -> Process end, kill),
    receive {'DOWN', Monitor, process, _, _} -> ok end.

%% Runs children under a supervisor until the node ends.
start_supervised(Children) ->
    Caller = self(),
    spawn(fun() ->
        Caller ! {started, supervisor:start_link(?MODULE, Children)},
        receive after infinity -> ok end
    end),
    receive {started, {ok, Supervisor}} -> Supervisor end.

init(Children) ->
    {ok, {#{intensity => 10, period => 1}, Children}}.
